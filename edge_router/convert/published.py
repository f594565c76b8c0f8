"""Which GGUFs of a repository are meant: a quantisation (q4_k_m), a file's name, a pattern.

A repository has a file for each quantisation, or a folder of parts; what belongs to no text
model of its own (an importance matrix, a projector of images) is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Final

from edge_router.convert.gguf_source import slug
from edge_router.errors import UserError
from edge_router.files.paths import MAX_NAME, stays_inside

_PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})", re.DOTALL)
_QUANTISATION: Final = re.compile(
    r"(?:^|[-._])((?:ud[-_])?(?:i?q|tq)\d\w*|bf16|f16|fp16|f32|mxfp4\w*)$"
)
_NO_MODEL: Final = ("mmproj", "imatrix")
_SHOWN: Final = 12  # names that a sentence lists


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository."""

    path: str  # as the repository has it
    size: int = 0  # bytes, 0 where nobody said
    sha256: str = ""  # "" where nobody said


@dataclass(frozen=True)
class PublishedGguf:
    """A model's file, or its parts in their order."""

    label: str  # the path without ".gguf" and without the number of a part
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def quantisation(self) -> str:
        """What its name, or else its folder's, says of it: "q4_k_m"; "" where neither does."""
        for part in reversed(PurePosixPath(self.label.lower()).parts):
            if match := _QUANTISATION.search(part):
                return match[1]
        return ""

    @property
    def shown(self) -> str:
        return self.quantisation or self.label


def ggufs_of(files: Iterable[RemoteFile]) -> list[PublishedGguf]:
    """The models among a repository's files. One of which parts are missing has those there are."""
    grouped: dict[str, list[RemoteFile]] = {}
    for file in sorted(files, key=lambda f: f.path):
        stem, name = file.path[: -len(".gguf")], PurePosixPath(file.path).name.lower()
        if not name.endswith(".gguf") or not stays_inside(file.path):
            continue
        if not any(word in name for word in _NO_MODEL):
            match = _PART.fullmatch(stem)
            grouped.setdefault(match[1] if match else stem, []).append(file)
    return [PublishedGguf(label, tuple(parts)) for label, parts in grouped.items()]


def choose(repo: str, there: Sequence[PublishedGguf], asked: str) -> PublishedGguf:
    """The one model that `asked` names. Raises `UserError` for none, several, or half of one."""
    found = next((some for fits in _WAYS if (some := _fitting(there, asked, fits))), [])
    if not found:
        raise UserError(f"{repo} has no GGUF {asked!r}; {listed(there)}")
    if len(found) > 1:
        could = " or ".join(model.label for model in found[:3])
        raise UserError(f"{asked!r} could be {could} in {repo}; write more of the name")
    _require_all_parts(repo, found[0])
    return found[0]


def listed(there: Sequence[PublishedGguf]) -> str:
    """ "there are q4_k_m, q8_0", from the smallest."""
    names = list(dict.fromkeys(model.shown for model in sorted(there, key=lambda m: m.size)))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"there are {', '.join(names[:_SHOWN])}{more}" if names else "it has no GGUF at all"


def tier_names(models: Sequence[PublishedGguf]) -> list[str]:
    """What the tiers are called: by their quantisations, or by their files where two are alike."""
    names = [model.quantisation for model in models]
    if not all(names) or len({*names}) < len(names):
        names = [slug(model.label) for model in models]
    if len({*names}) < len(names):
        names = [slug(model.label.replace("/", "-")) for model in models]
    return [name[:MAX_NAME] for name in names]


# -- what may be asked for, the most exact first ------------------------------------------------

_Fits = Callable[[str, str], bool]  # (label, asked), both in lower case


def _fitting(there: Sequence[PublishedGguf], asked: str, fits: _Fits) -> list[PublishedGguf]:
    wanted = asked.lower().removesuffix(".gguf")
    if match := _PART.fullmatch(wanted):
        wanted = match[1]
    return [model for model in there if fits(model.label.lower(), wanted)]


def _is_path(label: str, asked: str) -> bool:
    return asked in (label, PurePosixPath(label).name)


def _is_end(label: str, asked: str) -> bool:
    return re.search(rf"(?:^|[-._/]){re.escape(asked)}$", label) is not None


def _is_word(label: str, asked: str) -> bool:
    return re.search(rf"(?:^|[-._/]){re.escape(asked)}(?:[-./]|$)", label) is not None


def _is_pattern(label: str, asked: str) -> bool:
    return fnmatchcase(label, asked) or fnmatchcase(PurePosixPath(label).name, asked)


_WAYS: Final[tuple[_Fits, ...]] = (_is_path, _is_end, _is_word, _is_pattern)


def _require_all_parts(repo: str, model: PublishedGguf) -> None:
    numbers = [_PART.fullmatch(file.path[: -len(".gguf")]) for file in model.files]
    parts = [(int(match[2]), int(match[3])) for match in numbers if match]
    count = max((of for _, of in parts), default=1)
    whole = [(number, count) for number in range(1, count + 1)]
    if parts and parts != whole:
        missing = next((n for n, _ in whole if (n, count) not in parts), 1)
        raise UserError(f"part {missing} of {count} of {model.label} is not in {repo}")
    if len(parts) != len(model.files) and len(model.files) > 1:
        raise UserError(f"{model.label} is in {repo} whole and in parts; take another one")
