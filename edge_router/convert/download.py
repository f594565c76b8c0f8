"""Fetch a checkpoint from Hugging Face: what converting needs of it, with resume.

huggingface_hub downloads, shows its progress bars and goes on where it was
interrupted; what its own cache holds is not downloaded again. Ready-made
PyTorch files are left alone; a token for models that ask for consent is taken
from HF_TOKEN or `hf auth login`, as everywhere.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from edge_router.convert.checkpoint import Checkpoint
from edge_router.errors import UserError
from edge_router.files.folders import cache_folder
from edge_router.files.paths import is_folder
from edge_router.files.whole import disk_full, make_folder, require_space
from edge_router.parts import load_part

WANTED: Final = ("*.json", "model*.safetensors", "tokenizer.model", "merges.txt", "*.jinja", "*.md")
_HUB: Final = ("huggingface.co", "www.huggingface.co", "hf.co")
_REPO: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Fetched:
    """A checkpoint's folder; `ours` is removed after converting, Hugging Face's cache is not."""

    folder: Path
    ours: bool = True


def is_repo(source: str) -> bool:
    """Whether `source` is a Hugging Face id and not a path."""
    return bool(_REPO.fullmatch(source)) and ".." not in source and not is_folder(Path(source))


def refuse_url(source: str) -> None:
    """Raise `UserError` for a URL, naming the id where it is Hugging Face's."""
    scheme, separator, rest = source.partition("://")
    if not separator or not scheme.isalnum():
        return
    parts = rest.split("/") if scheme.lower() == "hf" else rest.split("/")[1:]
    at_hub = scheme.lower() == "hf" or rest.split("/")[0].lower() in _HUB
    advice = "download it and give the path"
    if at_hub and is_repo("/".join(parts[:2])):
        advice = f"give the model's id, {'/'.join(parts[:2])}"
    raise UserError(f"{source} is a URL; {advice}")


def checkpoint_folder(repo: str) -> Path:
    """Where a downloaded checkpoint lies."""
    return cache_folder() / "checkpoints" / repo.replace("/", "--")


def fetch(repo: str) -> Fetched:
    """Download what is missing of `repo`, unless the Hugging Face cache has its newest version.

    When the hub does not answer, what lies there or was downloaded before will do, if it is
    whole. Raises `UserError`.
    """
    hub = load_part("huggingface_hub", extra="convert")
    cached, folder = cached_snapshot(hub, repo), checkpoint_folder(repo)
    try:
        info = hub.HfApi().model_info(repo, files_metadata=True)
        _require_checkpoint(repo, info)
        if cached is not None and cached.name == info.sha and is_whole(cached):
            return Fetched(cached, ours=False)
        make_folder(folder)
        require_space(folder, _size(info) - _held(folder))
        hub.snapshot_download(repo, local_dir=folder, allow_patterns=list(WANTED))
    except UserError:
        raise
    except Exception as error:  # httpx's, requests' or the hub's own, by version
        if cached is not None and is_whole(cached):
            return Fetched(cached, ours=False)
        if is_whole(folder):
            return Fetched(folder)
        raise explained(repo, error, folder) from error
    return Fetched(folder)


def _require_checkpoint(repo: str, info: Any) -> None:
    """Raise `UserError` for a repository that has GGUFs and nothing to convert."""
    kinds = {Path(file.rfilename).suffix for file in info.siblings or []}
    if ".gguf" in kinds and ".safetensors" not in kinds:
        raise UserError(
            f"{repo} has GGUFs and no checkpoint; take two of them as they are: "
            f"edge-router models pull hf:{repo} --files q4_k_m,q8_0"
        )


def cached_snapshot(hub: Any, repo: str, revision: str = "") -> Path | None:
    """The snapshot of `repo` in the Hugging Face cache, which may lack files."""
    try:
        return Path(hub.snapshot_download(repo, revision=revision or None, local_files_only=True))
    except Exception:  # it has several for "not there", by version
        return None


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint can be read from `folder`: configuration, tokenizer and all weights."""
    if any(folder.rglob("*.incomplete")):  # how an interrupted download leaves a file
        return False
    try:
        Checkpoint.open(folder)
    except UserError:
        return False
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))


def _size(info: Any) -> int:
    """Bytes of the files that are wanted, 0 where the hub does not say."""
    found = info.siblings or []
    return sum(f.size or 0 for f in found if any(fnmatch(f.rfilename, w) for w in WANTED))


def _held(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def explained(repo: str, error: Exception, folder: Path, revision: str = "") -> UserError:
    """What went wrong while files of `repo` were fetched to `folder`.

    By the name of the exception: the classes moved between versions.
    """
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return disk_full(folder)
    names = {kind.__name__ for kind in type(error).__mro__}
    if "GatedRepoError" in names:
        return UserError(
            f"{repo} asks for consent: accept its licence on https://huggingface.co/{repo} and "
            "set HF_TOKEN to a token of yours"
        )
    if "RevisionNotFoundError" in names:
        return UserError(f"{repo} has no branch, tag or commit {revision!r}")
    if "RepositoryNotFoundError" in names:
        return UserError(f"there is no model {repo} on Hugging Face, or it is not open to you")
    if "OfflineModeIsEnabled" in names:
        return UserError(
            f"{repo} cannot be downloaded: HF_HUB_OFFLINE is set, and the Hugging Face cache does "
            "not have all of it"
        )
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(
        f"{repo} cannot be downloaded: Hugging Face cannot be reached ({said}); "
        "what was fetched is kept, run the command again when you are online"
    )
