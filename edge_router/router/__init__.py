"""Routers: what is known of a step, and the tier that writes it. They never see text.

spec           RouterSpec: "entropy:0.8" taken apart, once
registry       every kind of router: how it is built, what it does, what it compares
base           Router, the protocol; Decision and Features
budget         a share of the steps, by the order of a model's own scores
rules          routers that need no training
onnx_router    a trained router; onnx_file opens, reads and checks its file
steered        a router that a person may overrule
feature_table  the features: names, meaning, units, scales, versions
features       from logits and what the episode tells besides to the vector that routers read
logits         the one pass over a next-token distribution
"""
