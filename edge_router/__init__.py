"""edge-router: run an LLM agent at the precision that each step needs, no more."""

from edge_router.privacy import send_nothing

__version__ = "0.1.0"

send_nothing()
