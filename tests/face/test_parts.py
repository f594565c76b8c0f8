"""Optional parts are loaded by name, and a missing one is reported in a sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge_router.errors import UserError
from edge_router.parts import load_part


def test_a_part_that_is_there_is_loaded() -> None:
    assert load_part("train.lm", extra="train").__name__ == "train.lm"


def test_a_part_whose_package_is_missing_names_the_package_and_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_part.py").write_text("import a_package_nobody_has.inner\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"a_package_nobody_has, .*edge-router\[tui\]"):
        load_part("some_part", extra="tui")
    sys.modules.pop("some_part", None)
