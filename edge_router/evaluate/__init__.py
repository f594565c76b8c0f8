"""What routing buys: games under many routers, each game played once.

choices       what is asked for, and what becomes of it: games, rows, settings, work
run_policies  `bench policies`: plays the rows' games and shows the table
policies      games x rows, and what is kept of them
rows          who plays, in which KV mode, at which dial; routers that only a benchmark needs
jobs          one game as a piece of work, and its key
records       what is kept of an episode, and why it was lost
summary       rows as numbers with intervals
run_tiers     `bench tiers`: each tier alone, and how far it is from the high one
"""
