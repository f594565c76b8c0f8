"""The openings of prompts, kept on disk: rules and a worked example are read once a machine.

Every episode of a general model begins with the same hundreds of tokens, which take seconds to
prefill. An opening is always computed as a batch of its own, so the KV that a file holds and the
KV that the model would compute have the same bits.

    store = usual_store()                       # None where nothing can or shall be kept
    begin_with(tier, tokens, store)             # loaded, or computed and kept

A file belongs to one GGUF, one build of llama.cpp on one kind of processor, one kind of context
and the tokens. What does not fit or is damaged is computed and written again. Files are replaced
whole and read without locks, so any number of processes may share the folder. In a file lie

    magic, key, number of pieces         what it is; compared byte for byte with what is wanted
    (length, SHA-256, KV) a piece        in order

A piece's digest covers the beginning of the file, the piece's number and its bytes: pieces cannot
be exchanged or left out. Each is checked before it is handed out, so llama.cpp never sees a byte
that was not written for this key.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from edge_router.engine.clock import ms_since
from edge_router.engine.library import library_line
from edge_router.engine.llama import PIECE_TOKENS, EngineError
from edge_router.engine.machine import cpu_model
from edge_router.engine.tier import Ingest, Tier, common_prefix
from edge_router.engine.tier_sizes import kv_bytes
from edge_router.errors import UserError
from edge_router.files.folders import cache_folder, if_any
from edge_router.files.paths import why_no_file
from edge_router.files.whole import PARTIAL, free_bytes, gigabytes, whole

LIMIT: Final = "EDGE_ROUTER_OPENINGS_GB"
# A shorter beginning is not worth a batch of its own: see docs/measurements.md.
LEAST_TOKENS: Final = 64
_USUAL_LIMIT: Final = 2_000_000_000
_USUAL_SHARE: Final = 0.05  # of the room on the disk
_SUFFIX: Final = ".kv"
_ABANDONED: Final = 3600.0  # seconds after which a half-written file has lost its writer


@dataclass(frozen=True)
class Kept:
    """What lies in the folder."""

    folder: Path
    files: int
    size_bytes: int
    limit_bytes: int  # 0: nothing is kept

    def sentence(self) -> str:
        """How much is kept, at most, and where."""
        size = gigabytes(self.size_bytes)
        if not self.limit_bytes:
            return f"{self.many} kept, {size}; new ones are not, because {LIMIT} is 0"
        at_most = gigabytes(self.limit_bytes)
        return f"{self.many} kept, {size} of at most {at_most}, in {self.folder}"

    @property
    def many(self) -> str:
        """ "3 prompt openings"."""
        return f"{self.files} prompt opening{'' if self.files == 1 else 's'}"


class OpeningStore:
    """Openings in `folder`, at most `limit` bytes of them; the least recently used leave first."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._fails = False  # writing did, and is not tried again
        self._notes: list[str] = []

    def load(self, tier: Tier, tokens: Sequence[int]) -> bool:
        """Fill the empty cache of `tier` with the KV of `tokens`; False where it is not kept."""
        key = _key(tier, tokens)
        path = self._path(key)
        if why_no_file(path):
            return False
        try:
            with path.open("rb") as file:
                pieces = read_pieces(file, key, len(_spans(tokens)))
                for (start, end), piece in zip(_spans(tokens), pieces, strict=True):
                    tier.context.import_span(piece, start, end)
        except FileNotFoundError:
            return False
        except (OSError, WrongFileError, EngineError):
            with contextlib.suppress(OSError):
                path.unlink()
            tier.truncate(0)
            return False
        tier.held = list(tokens)
        with contextlib.suppress(OSError):  # a read-only folder
            os.utime(path)
        return True

    def keep(self, tier: Tier, tokens: Sequence[int]) -> None:
        """Write the KV of `tokens`, which `tier` has just computed. What fails is noted, once."""
        if self._fails or kv_bytes(tier.model.header, len(tokens)) > self.limit:
            return
        key, spans = _key(tier, tokens), _spans(tokens)
        path = self._path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole(path, durable=False) as partial:
                pieces = (tier.context.export_span(start, end) for start, end in spans)
                write_pieces(partial, key, len(spans), pieces)
            self._make_room(path)
        except (OSError, UserError) as error:
            self._fails = True
            self._notes.append(f"the prompt's opening cannot be kept for the next run: {error}")

    def take_notes(self) -> list[str]:
        """What went wrong and was not told yet."""
        notes, self._notes = self._notes, []
        return notes

    def kept(self) -> Kept:
        """How much is kept."""
        sizes = [size for _, size, _ in self._files()]
        return Kept(self.folder, len(sizes), sum(sizes), self.limit)

    def clear(self) -> Kept:
        """Remove everything; returns what was there. Raises `UserError`."""
        before = self.kept()
        try:
            for _, _, path in self._files():
                path.unlink(missing_ok=True)
            self._sweep(0.0)
        except OSError as error:
            raise UserError(f"{self.folder} cannot be emptied: {error.strerror}") from error
        return before

    def _make_room(self, newest: Path) -> None:
        """Remove the least recently used until the rest is within the limit."""
        self._sweep(_ABANDONED)
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self.limit:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size

    def _sweep(self, age: float) -> None:
        """Remove half-written files that are older than `age` seconds."""
        for path in self.folder.glob(PARTIAL):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= age:
                    path.unlink()

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Time of last use, size and path of each; another process may remove some meanwhile."""
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                facts = path.stat()
                yield facts.st_mtime, facts.st_size, path

    def _path(self, key: bytes) -> Path:
        return self.folder / f"{key.hex()}{_SUFFIX}"


def worth_keeping(opening: Sequence[int]) -> list[int]:
    """The opening, or none where it is too short for a batch of its own."""
    return list(opening) if len(opening) >= LEAST_TOKENS else []


def begin_with(tier: Tier, opening: Sequence[int], store: OpeningStore | None) -> Ingest:
    """Let a tier's cache begin with `opening`, loaded or computed as a batch of its own.

    What begins with it already stays as it is; anything else is dropped. One that is too short is
    left to whoever computes the rest.
    """
    opening = worth_keeping(opening)
    if common_prefix(tier.held, opening) == len(opening):
        return Ingest(0, len(opening), 0.0)
    tier.truncate(0)
    started, ms, load_ms = time.perf_counter(), 0.0, 0.0
    loaded = store is not None and store.load(tier, opening)
    if store is not None:
        load_ms = ms_since(started)
    if not loaded:
        started = time.perf_counter()
        tier.decode(opening)
        ms = ms_since(started)
    tier.opening = opening
    if store is not None and not loaded:
        started = time.perf_counter()
        store.keep(tier, opening)
        load_ms += ms_since(started)
    tokens = len(opening)
    return Ingest(0 if loaded else tokens, 0, ms, tokens if loaded else 0, load_ms)


def usual_store() -> OpeningStore | None:
    """The user's own; None without a home folder, or where its limit is 0. Raises `UserError`."""
    store = any_store()
    return store if store is not None and store.limit else None


def any_store() -> OpeningStore | None:
    """The user's own, also where its limit is 0; None without a home folder."""
    cache = if_any(cache_folder)
    return OpeningStore(cache / "openings", _limit(cache / "openings")) if cache else None


def _limit(folder: Path) -> int:
    """Bytes that may be kept: what the user says, else 2 GB, on a small disk less."""
    said = os.environ.get(LIMIT)
    if said:
        try:
            gigabytes = float(said)
        except ValueError:
            gigabytes = -1.0
        if not 0.0 <= gigabytes < 1e6:
            raise UserError(
                f"{LIMIT} is {said!r}; set it to the gigabytes of prompt openings to keep, such as"
                " 2, or to 0 for none"
            )
        return int(gigabytes * 1e9)
    there = OpeningStore(folder, 0).kept().size_bytes
    return min(_USUAL_LIMIT, int(_USUAL_SHARE * (free_bytes(folder) + there)))


def _spans(tokens: Sequence[int]) -> list[tuple[int, int]]:
    """The pieces that KV moves in, as (first position, end)."""
    n = len(tokens)
    return [(start, min(start + PIECE_TOKENS, n)) for start in range(0, n, PIECE_TOKENS)]


def _key(tier: Tier, tokens: Sequence[int]) -> bytes:
    """SHA-256 over everything that decides the bits."""
    conditions = {
        "model": tier.fingerprint,
        "library": library_line(),
        "processor": cpu_model(),
        "context": tier.context.conditions(),
        "tokens": list(tokens),
    }
    return hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).digest()


# -- the file of one opening ----------------------------------------------------------------------

_MAGIC: Final = b"edge-router opening 1\n"
_COUNT: Final = struct.Struct("<I")
_LENGTH: Final = struct.Struct("<Q")
_DIGEST: Final = hashlib.sha256().digest_size


class WrongFileError(Exception):
    """The file is not what its key promises."""


def write_pieces(path: Path, key: bytes, count: int, pieces: Iterable[bytes]) -> None:
    """Write `count` pieces of KV under `key`; one is in memory at a time. Raises OSError."""
    head = _head(key, count)
    with path.open("wb") as file:
        file.write(head)
        for index, piece in enumerate(pieces):
            file.write(_LENGTH.pack(len(piece)))
            file.write(_digest(head, index, piece))
            file.write(piece)


def read_pieces(file: BinaryIO, key: bytes, count: int) -> Iterator[bytes]:
    """The pieces, each checked before it is given; raises `WrongFileError` where one is not right.

    Only at the end is it sure that the file holds nothing else. Raises OSError.
    """
    head = _head(key, count)
    if file.read(len(head)) != head:
        raise WrongFileError("it was written for something else")
    left = _bytes_left(file)
    for index in range(count):
        left -= _LENGTH.size + _DIGEST
        if left < 0:
            raise WrongFileError("it is cut short")
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        digest = file.read(_DIGEST)
        left -= length
        if left < 0:  # asked for, it would be made room for first
            raise WrongFileError("it is cut short")
        piece = file.read(length)
        if _digest(head, index, piece) != digest:
            raise WrongFileError(f"piece {index} has another checksum")
        yield piece
    if left:
        raise WrongFileError("more follows than belongs to it")


def _head(key: bytes, count: int) -> bytes:
    return _MAGIC + key + _COUNT.pack(count)


def _digest(head: bytes, index: int, piece: bytes) -> bytes:
    digest = hashlib.sha256(head + _COUNT.pack(index))
    digest.update(piece)
    return digest.digest()


def _bytes_left(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end - here
