"""What makes models and routers; PyTorch lives here alone."""

import edge_router  # noqa: F401  (first: it switches the libraries' telemetry off)
