"""What the screen shows, as plain data.

episode    events -> what has happened so far
estimate   what the high tier alone would have cost
screenful  everything that the screen shows
timeline   a trace as a line of time
"""
