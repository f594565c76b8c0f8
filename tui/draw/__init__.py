"""Plain data as text: pure functions, and the widgets that show them.

look             colours and signs of tiers and stages
words            features and decisions in words
cleaning         texts of files and models, so that they steer nothing
lines            lines of rich text, cut to a width, also for Textual's line API
head             the top: goal, tiers, what is happening
strip            the precision strip, a column a step
why              the router panel
time             where the time goes
sofar            meters: shares, memory, KV, games
transcript       the transcript as blocks of lines
transcript_view  the widget that scrolls it
panels           the other widgets, which redraw only what changed
"""
