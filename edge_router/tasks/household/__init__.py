"""Household games of our own: generator, fast simulator, scripted expert, PDDL reader and writer.

facts       what the official train split says about rooms (tables, no official file)
world       a household as plain data: receptacles, items, a goal
generator   draws worlds that are solvable by construction
pddl        world <-> `game.tw-pddl` + `traj_data.json` in ALFWorld's layout
simulator   the ALFWorld engine's rules and sentences on a world, in microseconds
expert      a scripted player that uses only what it has seen
"""
