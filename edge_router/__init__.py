"""edge-router: run an LLM agent at the precision that each step needs, no more."""

__version__ = "0.1.0"
