"""Where edge-router keeps what it makes for one user: profiles, results, synthetic models.

`EDGE_ROUTER_HOME` puts all of it under one folder; otherwise the system's usual places
are taken (on Linux ~/.local/share/edge-router and ~/.cache/edge-router).
"""

from __future__ import annotations

import os
from pathlib import Path

HOME = "EDGE_ROUTER_HOME"


def data_folder() -> Path:
    """For what is worth keeping, such as a calibration. Not made here."""
    import platformdirs

    return _home() or Path(platformdirs.user_data_dir("edge-router"))


def cache_folder() -> Path:
    """For what can be made or fetched again. Not made here."""
    import platformdirs

    home = _home()
    return home / "cache" if home else Path(platformdirs.user_cache_dir("edge-router"))


def _home() -> Path | None:
    named = os.environ.get(HOME)
    return Path(named).expanduser() if named else None
