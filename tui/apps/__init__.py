"""The apps, and the keys that steer them.

commands  what the command line opens
frame     what all apps have in common: keys, themes, screenshots
live      an episode as it is played
replay    a trace, or a game just played
compare   two traces side by side
player    the thread that plays: pause, step, pace and quit
playable  what the live app plays
pace      how long a step is shown
picker    picks a game
help      the help screen
refusals  why a key does nothing now
farewell  what is left on the terminal
"""
