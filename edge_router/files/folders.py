"""Where edge-router keeps what belongs to one user: settings, profiles, results, models.

`EDGE_ROUTER_HOME` puts all of it under one folder; otherwise the system's usual places are taken
(on Linux ~/.config/edge-router, ~/.local/share/edge-router and ~/.cache/edge-router). A service
or a cron job may have no home at all: whoever only looks there goes on without, by `if_any`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from edge_router.errors import UserError

HOME = "EDGE_ROUTER_HOME"


class NoHomeError(UserError):
    """The user has no home folder and none was named."""

    def __init__(self) -> None:
        super().__init__(
            f"this user has no home folder: set {HOME} to a folder that edge-router may write to"
        )


def config_folder() -> Path:
    """For config.toml. Not made here, and neither are the others. All raise `UserError`."""
    import platformdirs

    return _home() or _usual(platformdirs.user_config_dir)


def data_folder() -> Path:
    """For what is worth keeping, such as a calibration."""
    import platformdirs

    return _home() or _usual(platformdirs.user_data_dir)


def cache_folder() -> Path:
    """For what can be made or fetched again."""
    import platformdirs

    home = _home()
    return home / "cache" if home else _usual(platformdirs.user_cache_dir)


def if_any(folder: Callable[[], Path]) -> Path | None:
    """The folder, None when the user has no home; for reading what may be there."""
    try:
        return folder()
    except NoHomeError:
        return None


def _home() -> Path | None:
    """The folder that `EDGE_ROUTER_HOME` names; an empty value counts as none."""
    named = os.environ.get(HOME)
    if not named:
        return None
    home = Path(os.path.expanduser(named))
    if os.path.exists(home) and not os.path.isdir(home):
        raise UserError(f"{HOME} is set to {named}, which is a file; set it to a folder")
    return home


def _usual(place: Callable[[str], str]) -> Path:
    """One of platformdirs' places; without a home it raises, and older versions leave a ~."""
    try:
        path = place("edge-router")
    except RuntimeError as error:
        raise NoHomeError from error
    if path.startswith("~"):
        raise NoHomeError
    return Path(path)
