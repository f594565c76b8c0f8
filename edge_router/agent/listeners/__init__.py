"""What listens to the events of an episode and prints them.

output        chooses between app, text and JSON
printer       an episode as text, live
json_printer  one JSON object a step
screen        coloured text on a terminal, plain anywhere else
slowness      notices that tokens come far slower than they could
"""
