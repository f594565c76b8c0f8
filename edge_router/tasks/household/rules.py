"""ALFWorld's rules as tables."""

from __future__ import annotations

from typing import Final

REFUSED: Final = "Nothing happens."  # the reply to a command that was not possible
