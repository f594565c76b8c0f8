"""A router from recorded chats: no environment, no wins; where does the low tier's answer part?

    edge-router train router --task prompts --prompts chats.jsonl

A prompt is a game whose steps are the assistant's turns. The low tier drafts each answer, the
higher tiers verify it, and what follows is the recorded conversation, whoever wrote: so the tree
of a prompt is one road. Rollouts, walks, networks and the file are those of games.

lines       reads and checks the file of prompts
reading     what every tier answers, along one conversation
setting     the ladder, and what an answer depends on
agreement   how far an answer is from the high tier's, and what a router leaves of that
commands    the stages in their order: collect, sft, export, evaluate
stages      each of them
comparison  the rows of the table, and whether there is anything to route
"""
