"""Ready GGUFs of one Hugging Face repository as a ladder: fetched, compared, described.

    make_ladder(ReadyOrder("Qwen/Qwen3-0.6B-GGUF", ("q4_k_m", "q8_0")), say)

Nothing is converted, so nothing is measured: what the files lose against the original is what
their publisher made of it. That they are builds of one model is checked here, as it is each time
that a ladder is loaded. A file that the Hugging Face cache holds is linked from there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_router.convert.download import cached_snapshot, explained
from edge_router.convert.gguf_source import GgufFile, slug
from edge_router.convert.journal import JOURNAL, only_one
from edge_router.convert.published import (
    PublishedGguf,
    RemoteFile,
    choose,
    ggufs_of,
    listed,
    tier_names,
)
from edge_router.engine.fingerprint import file_sha256, require_same_model, require_same_text
from edge_router.engine.gguf_file import GgufHeader, read_header
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.trust import gguf_sha256, require_tried
from edge_router.errors import UserError
from edge_router.files.whole import gigabytes, make_folder, require_space, whole
from edge_router.ladders.ladder_file import LADDER_FILE, TierEntry, read_details, write_ladder
from edge_router.ladders.resolve import models_folder, require_free_name
from edge_router.parts import load_part
from edge_router.tasks.registry import find_task, style_for

PREFIX: Final = "hf:"  # how a repository is named whose files are taken as they are
Say = Callable[[str], None]


@dataclass(frozen=True)
class ReadyOrder:
    """What the user asked for; `revision` "" is the newest, `name` "" follows the repository."""

    repo: str
    files: tuple[str, ...]
    revision: str = ""
    name: str = ""

    @property
    def folder(self) -> Path:
        return models_folder() / self.called

    @property
    def called(self) -> str:
        return self.name or slug(self.repo)

    def told(self) -> dict[str, str]:
        """What ladder.toml keeps of it, so that the same order is known again."""
        asked = ",".join(sorted(name.lower() for name in self.files))
        return {"from": self.repo, "files": asked, "asked_revision": self.revision}


@dataclass(frozen=True)
class Listing:
    """What a repository holds at a commit; `unreachable` says why only the cache was asked."""

    repo: str
    commit: str
    ggufs: list[PublishedGguf]
    unreachable: UserError | None = None


def parse_files(text: str) -> tuple[str, ...]:
    """Read "q4_k_m,q8_0". Raises `UserError` for fewer than two."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if len(names) < 2:
        raise UserError(
            f"--files {text!r} names {len(names) or 'no'} GGUF, and a ladder needs two or more: "
            "for example --files q4_k_m,q8_0"
        )
    return names


def is_here(order: ReadyOrder) -> bool:
    """Whether the very ladder is there, with all its files."""
    if not (order.folder / LADDER_FILE).is_file():
        return False
    details = read_details(order.folder)
    source = details.get("source", {})
    there = all((order.folder / tier["file"]).is_file() for tier in details["tier"])
    return there and order.told().items() <= source.items()


def make_ladder(order: ReadyOrder, say: Say) -> Path:
    """Fetch what is missing and write ladder.toml; returns the folder. Raises `UserError`."""
    require_free_name(order.called)
    _require_ours(order)
    listing = list_ggufs(order.repo, order.revision)
    models = _chosen(listing, order.files)
    with _folder_of(order):
        _require_room(order.folder, models)
        for number, model in enumerate(models, 1):
            size = f", {gigabytes(model.size)}" if model.size else ""
            say(f"{number} of {len(models)}: {model.label}{size}")
            for file in model.files:
                _fetch(listing, file, order.folder)
        headers = [read_header(order.folder / model.files[0].path) for model in models]
        _require_one_model(order, headers)
        _describe(order, listing, models, headers)
    return order.folder


def list_ggufs(repo: str, revision: str = "") -> Listing:
    """The GGUFs of a repository; of the cache's copy where the hub does not answer.

    Raises `UserError` where neither is there.
    """
    hub = load_part("huggingface_hub", extra="convert")
    try:
        info = hub.HfApi().model_info(repo, revision=revision or None, files_metadata=True)
    except Exception as error:  # httpx's, requests' or the hub's own, by version
        why = explained(repo, error, models_folder(), revision)
        cached = cached_snapshot(hub, repo, revision)
        if cached is None:
            raise why from error
        found = [
            RemoteFile(str(f.relative_to(cached)), f.stat().st_size) for f in _ggufs_in(cached)
        ]
        return Listing(repo, cached.name, ggufs_of(found), why)
    return Listing(repo, str(info.sha), ggufs_of(map(_remote_file, info.siblings or [])))


def require_ggufs(listing: Listing) -> None:
    """Raise `UserError` for a repository that has none, saying what to do instead."""
    if not listing.ggufs:
        raise UserError(
            f"{listing.repo} has no GGUFs; convert its checkpoint: "
            f"edge-router models pull {listing.repo}"
        )


def files_are_missing(repo: str, revision: str) -> UserError:
    """What is said where nobody named the files: which there are."""
    listing = list_ggufs(repo, revision)
    require_ggufs(listing)
    return UserError(
        f"say which GGUFs of {repo} make up the ladder, for example --files q4_k_m,q8_0; "
        f"{listed(listing.ggufs)}"
    )


# -- choosing -------------------------------------------------------------------------------------


def _chosen(listing: Listing, names: Sequence[str]) -> list[PublishedGguf]:
    """The models asked for, low to high: the fewer bytes, the lower."""
    require_ggufs(listing)
    try:
        found = {name: choose(listing.repo, listing.ggufs, name) for name in names}
    except UserError:
        if listing.unreachable:  # the hub may well have it
            raise listing.unreachable from None
        raise
    for name, model in found.items():
        twice = next(other for other, chosen in found.items() if chosen == model)
        if twice != name:
            raise UserError(f"{twice!r} and {name!r} are one file, {model.label}; name another")
    return sorted(found.values(), key=lambda model: model.size)


def _remote_file(sibling: Any) -> RemoteFile:
    lfs = sibling.lfs
    return RemoteFile(sibling.rfilename, sibling.size or 0, str(lfs.sha256) if lfs else "")


def _ggufs_in(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.suffix.lower() == ".gguf" and file.is_file())


# -- the folder -----------------------------------------------------------------------------------


def _require_ours(order: ReadyOrder) -> None:
    """Raise `UserError` where another ladder has the folder."""
    folder, source = order.folder, ""
    if (folder / LADDER_FILE).is_file():
        source = str(read_details(folder).get("source", {}).get("from", "elsewhere"))
    if (folder / JOURNAL).is_file() or source not in ("", order.repo):
        what = f"a ladder from {source}" if source else "a conversion"
        raise UserError(f"{folder} holds {what} already; give another name with --name")


@contextmanager
def _folder_of(order: ReadyOrder) -> Iterator[None]:
    """Hold the folder; one that was made for nothing goes."""
    there = order.folder.exists()
    make_folder(order.folder)
    try:
        with only_one(order.folder):
            yield
    finally:
        kept = any(file.suffix in (".gguf", ".incomplete") for file in order.folder.rglob("*"))
        if not (there or kept):
            shutil.rmtree(order.folder, ignore_errors=True)


def _require_room(folder: Path, models: Sequence[PublishedGguf]) -> None:
    files = [file for model in models for file in model.files if not _is_whole(folder, file)]
    begun = sum(f.stat().st_size for f in folder.rglob("*.incomplete"))
    require_space(
        folder,
        sum(file.size for file in files) - begun,
        "name smaller --files, or move edge-router's files with EDGE_ROUTER_HOME",
    )


# -- one file -------------------------------------------------------------------------------------


def _fetch(listing: Listing, file: RemoteFile, folder: Path) -> None:
    """Bring a file into the folder, from the cache or from the hub, unless it is there."""
    if _is_what_was_promised(folder, file):
        return
    hub, target = load_part("huggingface_hub", extra="convert"), folder / file.path
    cached = hub.try_to_load_from_cache(listing.repo, file.path, revision=listing.commit)
    if isinstance(cached, str) and Path(cached).is_file():
        _link(Path(cached).resolve(), target)
    else:
        try:
            hub.hf_hub_download(
                listing.repo, file.path, revision=listing.commit, local_dir=str(folder)
            )
        except Exception as error:  # as in `list_ggufs`
            raise explained(listing.repo, error, folder) from error
    if not _is_what_was_promised(folder, file):
        target.unlink(missing_ok=True)
        raise UserError(
            f"{file.path} did not arrive as {listing.repo} has it; run the command again"
        )


def _is_whole(folder: Path, file: RemoteFile) -> bool:
    path = folder / file.path
    return path.is_file() and file.size in (0, path.stat().st_size)


def _is_what_was_promised(folder: Path, file: RemoteFile) -> bool:
    if not _is_whole(folder, file):
        return False
    return file.sha256 in ("", file_sha256(folder / file.path))


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name, which stay when the cache is emptied; else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with whole(target, durable=False) as partial:
        try:
            os.link(source, partial)
        except OSError:  # on another disk, or on one that knows no links
            shutil.copyfile(source, partial)


# -- the ladder -----------------------------------------------------------------------------------


def _require_one_model(order: ReadyOrder, headers: Sequence[GgufHeader]) -> None:
    """Raise `UserError` unless the files are builds of one model that llama.cpp can load."""
    try:
        require_same_model(headers)
        for header in headers:
            require_tried(header)
        require_same_text([LlamaModel.load(h.path, vocab_only=True) for h in headers])
    except UserError as error:
        raise UserError(
            f"{error} (what was fetched is in {order.folder}; edge-router models rm "
            f"{order.called} removes it)"
        ) from error


def _describe(
    order: ReadyOrder,
    listing: Listing,
    models: Sequence[PublishedGguf],
    headers: Sequence[GgufHeader],
) -> None:
    first = GgufFile(headers[0], order.repo)
    style = style_for(find_task(), headers[0].metadata)
    entries = [
        TierEntry(name, model.files[0].path, gguf_sha256(header.path), header.size_bytes)
        for name, model, header in zip(tier_names(models), models, headers, strict=True)
    ]
    source: dict[str, str | int] = {
        **order.told(),
        "revision": listing.commit,
        "architecture": first.architecture,
        "parameters": first.n_parameters,
    }
    ladder = {"name": order.called, "prompt": style.name}
    write_ladder(order.folder, ladder, entries, source=source)
