"""What the screen shows, as plain data.

episode    events -> what has happened so far
traffic    a server's events -> its requests as steps, and conversations
estimate   what the high tier alone would have cost
screenful  everything that the screen shows
timeline   a trace as a line of time
"""
