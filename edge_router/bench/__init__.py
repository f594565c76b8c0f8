"""What precision costs on this machine.

speed       `bench speed`: speed, loading, memory, handoff, decisions, energy
loops       tokens a second of one tier in four ways
decisions   what a routing decision costs
timing      warm-up, repeats, measurements in turn; memory's bytes a second; the processor's energy
calibrate   `calibrate`: seconds to read, to write and to hand over, kept as a profile
doubt       how unsure the low tier is over a few games, for budgets
advise      `advise`: measures precisions on a few layers, says which two to convert to
advice      what a step takes, which pair is best, other numbers of cores: arithmetic
candidates  what each precision of a shape would cost here, on a few layers of zeros
roofline    what measured times become on other cores and other memory
predict     `calibrate --cores`: a profile of a machine that is not here
doctor      `doctor`: what stands in the way of playing, with advice
shapes      the ladder that is measured
grow        a ladder with a small model's decisions at a large one's cost
growth      how a model is made larger without changing what it says
sizes       how large it is and becomes, and where its parts then lie
synthetic   random weights of a real model's shape
"""
