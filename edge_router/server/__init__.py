"""The server: OpenAI's interface to a ladder, over HTTP (needs the extra `serve`).

run        load, listen, drain: what `edge-router serve` does
app        the routes
forms      what a request may hold, checked
unkept     what other servers take and this one refuses
bodies     what answers hold
openapi    the routes and the document that describes them
names      which tier, dial or router a model's name asks for
answering  from a request to what the ladder is asked, and to its answer
worker     the one thread that owns the ladder, and the queue before it
replies    answers in OpenAI's form, whole or in pieces
errors     what goes wrong, in OpenAI's form
guard      who may ask: key, host, form and size of a body
metrics    counters for Prometheus
events     the one stream of what happens, to which the next and the app listen
"""
