"""Text for people.

printable  text that steers no terminal
tables     tables for any width, and as Markdown
stdio      the standard streams as they are found
"""
