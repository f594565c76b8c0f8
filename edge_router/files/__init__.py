"""Files: where they lie, reading what strangers wrote, writing whole ones.

folders     the user's folders
paths       names and paths, checked
data_files  JSON and TOML, with limits, and dataclasses from them
whole       files that appear only when they are whole; room on the disk
"""
