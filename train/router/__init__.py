"""Train a router for a ladder: rollouts, KL labels, supervision, GRPO, ONNX.

    edge-router train router --model household

`pipeline` runs the stages in turn; each can be run alone. What they share is
the rollout tree (`tree`, `store`): with greedy decoding the outcome of a step
depends on the text so far and the tier alone, so nothing is decoded twice.
"""
