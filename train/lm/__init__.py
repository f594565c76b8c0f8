"""The household LM, from nothing to a shipped ladder. Read in this order:

collect_facts   count what ALFWorld's train rooms are like (only with ALFWORLD_DATA)
(edge_router.tasks.household: generator, simulator, expert)
vocabulary      entities as single tokens
episodes        expert play with mistakes and recoveries, as token sequences
batches         an endless resumable stream of them
model           a small Qwen3 in PyTorch, and that of a run's last checkpoint
watched         a game that a model plays with the expert looking on
rollout         let the model play in the simulator
threads         PyTorch's threads, which follow the machine
train           imitation
corrections     the model plays, the expert corrects it (DAgger)
export          GGUF tiers and ladder.toml
reference       the same weights in transformers, for comparison
plot            learning curves
tune/           fine-tune a chat checkpoint instead: `edge-router train lm`
"""
