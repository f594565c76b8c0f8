"""Plain data as text: pure functions, and the widgets that show them.

look        colours and signs of tiers and stages
words       features and decisions in words
lines       lines of rich text, cut to a width, and the blocks of a transcript
head        the top: goal, tiers, what is happening
strip       the precision strip, a column a step
why         the router panel
time        where the time goes
sofar       meters: shares, memory, KV, games
served      of a server: where it is, how many asked; requests and answers as blocks
transcript  a game's transcript as blocks of lines, and the widget that scrolls it
panels      the other widgets, which redraw only what changed
"""
