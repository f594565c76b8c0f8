"""Text for people.

printable  text that steers no terminal, and the streams it goes to
tables     tables for any width, and as Markdown
"""
