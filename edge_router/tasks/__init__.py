"""The tasks that an agent can play: each a package of its own behind one protocol.

protocol    what the rest may know of a task and its games; choosing and playing any of them
registry    the tasks that there are, and which of a task's prompt styles a model is asked in
games       games that can be played, and how one is picked
drawn       sets of new games, written one by one
parse       how a step that a model wrote is read
alfworld/   ALFWorld's household games: engine, files, prompts
textworld/  text adventures made by tw-make
household/  the same households as plain data: rules, generator, simulator, scripted expert
"""
