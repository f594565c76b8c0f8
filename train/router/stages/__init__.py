"""The stages of training a router, one file each, in the order in which `commands` runs them.

collect    explore the training games' trees with every tier
sft        supervise networks: where do the tiers disagree?
grpo       improve them by what they win and cost
export     choose one, calibrate its dial, write router.onnx
evaluate   compare it with everything else on games nobody has tuned on

A stage takes a `Run`, reads what earlier stages left in its folder and leaves its own note.
"""
