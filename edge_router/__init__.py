"""edge-router: run an LLM agent at the precision that each step needs, no more.

    import edge_router

    with edge_router.load("household") as model:
        response = model.chat([{"role": "user", "content": "..."}])

What is named here is loaded when it is first used: `import edge_router` alone
costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edge_router.privacy import send_nothing

if TYPE_CHECKING:
    from edge_router.agent.chat import Response
    from edge_router.api import RoutedModel, Stream, load, play
    from edge_router.engine.ladder import Ladder
    from edge_router.errors import UserError
    from edge_router.router.base import Router
    from edge_router.tasks.protocol import Task

__version__ = "0.1.0"
__all__ = [
    "Ladder",
    "Response",
    "RoutedModel",
    "Router",
    "Stream",
    "Task",
    "UserError",
    "load",
    "play",
]

_HOMES = {
    "Response": "edge_router.agent.chat",
    "Ladder": "edge_router.engine.ladder",
    "Router": "edge_router.router.base",
    "Task": "edge_router.tasks.protocol",
    "UserError": "edge_router.errors",
}

send_nothing()


def __getattr__(name: str) -> Any:
    """Load what `name` stands for, once."""
    if name not in __all__:
        raise AttributeError(f"module 'edge_router' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "edge_router.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
