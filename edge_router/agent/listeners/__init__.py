"""What listens to the events of an episode and prints them.

output        chooses between app, text and JSON
printer       an episode as text, live: coloured on a terminal, plain anywhere else
json_printer  one JSON object a step
slowness      notices that tokens come far slower than they could
"""
