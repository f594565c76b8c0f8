"""The tests of this package play their games in one process."""

from tests.kept_process import kept_process

__all__ = ["kept_process"]
