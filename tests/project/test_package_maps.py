"""Every package's docstring is a map of its files: each is named, and nothing that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(
    path.parent
    for top in ("edge_router", "tui")
    for path in (ROOT / top).rglob("__init__.py")
    if path.parent != ROOT / "edge_router" and "_parts" not in path.parts
)
_ENTRY = re.compile(r"^(?:    )?([a-z_0-9]+/?)  +\S", re.MULTILINE)  # "name   what it is"


def files_of(package: Path) -> set[str]:
    """Modules by name, and packages with a slash."""
    modules = {path.stem for path in package.glob("*.py") if not path.stem.startswith("__")}
    return modules | {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}


def named(name: str, doc: str) -> bool:
    """Whether a line of the map begins with `name`, or has it after a comma: ", name opens it"."""
    return bool(re.search(rf"(?:^ {{0,4}}|[;,] ){re.escape(name)}(?!\w)", doc, re.MULTILINE))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_package_says_what_each_of_its_files_is(package: Path) -> None:
    doc = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8")), clean=False)
    entries = _ENTRY.findall(doc or "")
    missing = {name for name in files_of(package) if not named(name, doc or "")}
    assert not missing, f"add a line for each to {package.name}/__init__.py"
    assert set(entries) <= files_of(package), "these are no longer there"


def test_only_six_files_touch_ctypes() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for top in ("edge_router", "tui", "train", "tools")
        for path in (ROOT / top).rglob("*.py")
        if re.search(r"^\s*(?:import ctypes|from ctypes)", path.read_text("utf-8"), re.MULTILINE)
    }
    names = ("grammar", "library", "llama", "llama_model", "llama_quantise", "stop_flag")
    assert found == {f"edge_router/engine/{name}.py" for name in names}
