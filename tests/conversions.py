"""`edge-router convert` as tests run it, and what it leaves behind."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_router.cli.main import main
from tests.checkpoints import write_checkpoint

TIERS = "q3_k_m,q8_0"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("convert") / "Tiny-Qwen3", "qwen3")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, arguments)], prog_name="edge-router")


def refused(*arguments: object) -> str:
    """The one sentence that a refused conversion ends with."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("edge-router: ")
    assert "Traceback" not in result.stderr
    return last


def files(folder: Path) -> dict[str, str]:
    """SHA-256 of the visible files."""
    return {
        f.name: hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(folder.iterdir())
        if not f.name.startswith(".")
    }
