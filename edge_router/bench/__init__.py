"""What precision costs on this machine.

run_speed      `bench speed`: finds the ladder, measures it, shows the figures
speed          speed, loading, memory, handoff, decisions, energy
loops          tokens a second of one tier in four ways
decisions      what a routing decision costs
energy         the processor's own counters
timing         warm-up, repeats, measurements in turn
run_calibrate  `calibrate`: measures, stores the profile, says which tiers pay
calibrate      seconds to read, to write and to hand over
run_doctor     `doctor`: prints the findings
doctor         what stands in the way of playing, with advice
shapes         the ladder that is measured
synthetic      random weights of a real model's shape
"""
