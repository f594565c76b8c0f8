"""The apps, and the keys that steer them.

commands   what the command line opens
frame      what all apps have in common: keys, themes, screenshots
listening  the apps on something that goes on by itself, and steer a router
live       an episode as it is played
server     a server as it answers
replay     a trace, or a game just played
compare    two traces side by side
player     what the live app plays, and the thread that plays it: pause, step, pace and quit
picker     picks a game
help       the help screen
sentences  what is said of the pace, of keys that do nothing, and at the end
"""
