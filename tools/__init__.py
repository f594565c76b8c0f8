"""What the Makefile needs beside pip: nothing in here is part of an installed edge-router."""

import edge_router  # noqa: F401  (first: it switches the libraries' telemetry off)
