"""What the screen shows, as plain data.

episode    events -> what has happened so far; a trace as a line of time
traffic    a server's events -> its requests as steps, and conversations
estimate   what the high tier alone would have cost
screenful  everything that the screen shows
"""
