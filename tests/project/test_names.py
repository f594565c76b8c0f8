"""One word, one thing: what is called the same must be the same."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGES = ("edge_router", "tui", "train", "tools", "tests")


def public_classes() -> dict[str, list[str]]:
    """Where each public class is defined, by its name."""
    found = defaultdict(list)
    for package in PACKAGES:
        for path in sorted(Path(package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(f"{path}:{node.lineno}")
    return found


def test_no_two_public_classes_share_a_name() -> None:
    classes = public_classes()
    assert len(classes) > 200
    assert {name: places for name, places in classes.items() if len(places) > 1} == {}
