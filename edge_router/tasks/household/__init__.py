"""Households as plain data: generator, fast simulator, scripted expert, PDDL reader and writer.

rules       ALFWorld's rules as tables
facts       what the official train split says about rooms (tables, no official file)
world       a household as plain data: receptacles, items, a goal
generator   draws worlds that are solvable by construction
pddl        reads a world from `game.tw-pddl` and `traj_data.json`; pddl_write writes one
simulator   the ALFWorld engine's rules and sentences on a world, in microseconds
expert      a scripted player that uses only what it has seen
"""
