"""Fine-tune a chat checkpoint on expert episodes. Read in this order:

dialogues   expert play as chats, in the prompt style of tuned models
sequences   their tokens, with a mark on those that are learnt
packing     rows of tokens, in a resumable stream
model       the checkpoint with LoRA adapters, or all of it
trainer     the loop
players     the model plays in the simulator, many games at once
reward      what an episode returns, and how much better that is than its group
grpo        the model plays each game several times, and learns what pays
finish      adapter, merged checkpoint, ladder
measure     every tier alone: is there anything to route?
commands    all of it: `edge-router train lm`
"""
