"""The agent: prompt, reply, the loop of an episode, and the events that it emits.

session         several games in a row on one loaded ladder
episode         the loop: the road of one step
step_writer     the model's part of a step: tokens in, a text by the chosen tier out
escalation      did the higher tier give another command than the draft?
prompt          the prompt as tokens, which only grows
template        a GGUF's own chat template
jinja_template  compiles and renders one: in this process, or in one of its own
history         what a router learns of the steps so far and of a draft's words, as numbers
events          the one stream of events
trace           writes it as JSONL, reads it back, and plays it through the listeners of a live run
messages        a conversation as what is read, and as what a router knows of it
chat            a conversation whose answers are routed
conversations   several of them that take turns on one ladder
response        an answer, who wrote it and why
tool_calls      calls of functions, as models read and write them
json_grammar    from a JSON schema to the grammar of an answer
listeners/      what prints the events
"""
