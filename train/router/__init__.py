"""Train a router for a ladder: rollouts, KL labels, supervision, GRPO, ONNX.

    edge-router train router --model household

What all stages share is the rollout tree: with greedy decoding the outcome of a
step depends on the text so far and the tier alone, so nothing is decoded twice.
The files, from the command down to what it stands on:

commands     `edge-router train router`: its options become a Run, the stages in their order
prompts      the same from recorded chats, without an environment
stages       collect, sft, grpo, export, evaluate: one file each
run          a run in its folder: games, rollouts, saved networks, the notes of stages
options      how much is explored and how networks are trained

objective    GRPO's arithmetic
checkpoint   the state of a GRPO run on disk
labels       which tier a step needed; the fewest escalations that win
charges      what a step costs while training
network      the router in PyTorch
onnx_writer  the router as the file that is shipped
ship         put that file into its ladder's folder
front        a router at every escalation rate, as points and as one number

table        policies walk through rollouts, as rows of the evaluation
figures      pictures
verify       reported episodes and the oracle's plans, for the real engine

rollouts     trees of many games, kept and grown on request
store        where they are kept
explore      what can be asked of an explorer, and processes of explorers
forest       many trees as arrays: thousands of episodes walk at once
policies     who chooses a tier in a walk
tree         the rollout tree of a game
node         one history in it
decoder      what every tier writes after a history
games        the games to learn from
setting      the ladder, and what a step's outcome depends on besides its history
"""
