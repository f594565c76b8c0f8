"""The Textual app: watch an agent choose its precision, live or from a trace.

It listens to the event stream of `edge_router.agent` and draws; nothing of the
engine is imported here. From the bottom up:

    state/  what has happened so far, as plain data
    draw/   plain data as text, and thin widgets around it
    apps/   live, replay and comparison: keys, threads, screens
"""
