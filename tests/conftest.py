"""What all tests share: one thread each for the numeric libraries, so that they stay quick and
repeatable on a busy machine. It must happen before any of those is imported for the first time.
"""

from __future__ import annotations

import os
import signal
import sys

from hypothesis import settings

import edge_router  # noqa: F401  (first: it switches the libraries' telemetry off)

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell that starts the tests in the background lets them, and what they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# With it every process that a test starts, xdist's own too, would compile all of the program anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A width that the shell exports would wrap what tests read; those about widths set their own.
os.environ.pop("COLUMNS", None)
# A command that fails in a way of its own then shows its traceback, and settings of whoever runs
# the tests stay out of them.
os.environ.setdefault("EDGE_ROUTER_DEBUG", "1")
os.environ["XDG_CONFIG_HOME"] = os.devnull
# Openings of tiny models have no place in the cache of whoever runs the tests.
os.environ["EDGE_ROUTER_OPENINGS_GB"] = "0"
# Nor have their scores, which a budget of the next run would begin with.
os.environ["EDGE_ROUTER_NO_SCORES"] = "1"
# `make test` draws the same examples on every machine, so it says the same there; `make test-all`
# looks for new ones, and for twice as many.
settings.register_profile("repeatable", derandomize=True, max_examples=50)
settings.register_profile("explore")
settings.load_profile("repeatable")
