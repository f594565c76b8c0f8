"""Files: where they lie, reading what strangers wrote, writing whole ones.

folders     the user's folders
paths       names and paths, checked
data_files  JSON and TOML, with limits
plain_data  dataclasses from JSON
whole       files that appear only when they are whole
disk        folders and room on the disk
"""
