"""The tasks that an agent can play: each a package of its own behind one protocol.

protocol    what the agent may know of a task and of one of its games
parse       how a step that a model wrote is read
alfworld/   ALFWorld's household games: engine, files, prompts
household/  the same households as plain data: rules, generator, simulator, scripted expert
"""
