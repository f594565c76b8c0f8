"""The commands: options in, exit codes out. A module has one, or those that belong together.

main        the command itself: version, defaults, the list of commands, how they end
options     groups of options that commands share
types       types of options: paths, names, numbers
play        play
serve       serve
replay      replay, demo: recorded runs
games       games list, games generate
models      models list, show, path, pull, grow, rm
convert     convert
bench       bench policies, tiers, speed; report
machine     doctor, calibrate, advise: what this machine can do, and at which cost
train       train router
config      config, and the defaults of config.toml
completion  completion
"""

from edge_router.cli.main import main

__all__ = ["main"]
