"""The commands, a module each: options in, exit codes out.

main        the command itself: version, defaults, the list of commands
options     groups of options that commands share
types       types of options: paths, names, numbers
endings     one sentence and an exit code when something is in the way
play        play
serve       serve
replay      replay
demo        demo
games       games list, games generate
models      models list, show, path, pull, grow, rm
convert     convert
bench       bench policies, tiers, speed
calibrate   calibrate
advise      advise
doctor      doctor
report      report
train       train router
config      config, and the defaults of config.toml
completion  completion
"""

from edge_router.cli.main import main

__all__ = ["main"]
