"""The Textual app: watch an agent choose its precision, live or from a trace.

It listens to the event stream of `edge_router.agent` and draws; nothing of the
engine is imported here. From the bottom up:

    cleaning   texts of files and models, so that they steer nothing
    episode    events -> what has happened so far
    estimate   what the high tier alone would have cost
    words      features and decisions in words a person understands
    look       colours and signs of tiers and stages
    screenful  everything that the screen shows, as plain data
    draw_*     plain data -> text
    panels     thin widgets around draw_*
    transcript the scrolling transcript, drawn line by line
    frame      the app that live, replay and comparison have in common
    pace       how long a step is shown: slower and faster
    refusals   why a key does nothing now
    farewell   what is left on the terminal
    player     the thread that plays: pause, step, pace and quit
    timeline   a trace as a line of time
    live | replaying | comparing     the three apps
    commands   what the command line opens
"""
