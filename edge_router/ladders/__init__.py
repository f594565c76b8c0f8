"""Which files make up a ladder, how it is described, and what it costs.

resolve      from what the user names to tiers
catalogue    the models that can be fetched by name
ladder_file  reads and writes ladder.toml
costs        seconds a step on this machine
scores       how unsure a low tier has been, for budgets
"""
