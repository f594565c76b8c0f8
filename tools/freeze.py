"""Write constraints.txt from the environment it is run in: the tested set is the pinned one.

    python -m tools.freeze

is run by `make freeze` in the environment that `make check` made. It keeps the
file's opening comment and pins what edge-router and its extras need, with
everything these need in turn; whatever else is installed is left out.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from edge_router.files.whole import write_text

CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints.txt"
ROOT = "edge-router"
TESTED = ("convert", "train", "dev", "serve")  # what `make test` installs
EXTRAS = (*TESTED, "docs")


def wanted(requirement: Requirement, extras: frozenset[str]) -> bool:
    """Whether a requirement applies on this machine with these extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": e}) for e in extras | {""})


def closure(root: str, extras: frozenset[str]) -> dict[str, str]:
    """Name -> version of all that `root` with `extras` needs, itself left out."""
    pins: dict[str, str] = {}
    todo = [(root, extras)]
    seen = set(todo)
    while todo:
        name, extras = todo.pop()
        for text in requires(name) or ():
            requirement = Requirement(text)
            if not wanted(requirement, extras):
                continue
            try:
                installed = Version(version(requirement.name))
            except PackageNotFoundError as missing:
                missing_one = f"{requirement.name} is not installed; run make check first."
                raise SystemExit(missing_one) from missing
            pins[canonicalize_name(requirement.name)] = installed.public
            key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            if key not in seen:
                seen.add(key)
                todo.append(key)
    return pins


def main() -> None:
    """Rewrite constraints.txt, keeping its opening comment."""
    old = CONSTRAINTS.read_text("utf-8").splitlines()
    pins = closure(ROOT, frozenset(EXTRAS))
    lines = [
        *(line for line in old if line.startswith("#")),
        *(f"{name}=={pins[name]}" for name in sorted(pins)),
    ]
    write_text(CONSTRAINTS, "\n".join(lines) + "\n")
    print(f"{CONSTRAINTS.name}: {len(pins)} packages")


if __name__ == "__main__":
    main()
