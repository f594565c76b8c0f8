"""Files of strangers: what llama.cpp would die of, what is not as promised, what means the same."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from gguf import GGUFReader, GGUFValueType

from edge_router.engine import trust
from edge_router.engine.gguf_file import read_header
from edge_router.engine.ladder import Ladder, TierSpec
from edge_router.engine.trust import gguf_sha256, require_promised, require_tried
from edge_router.errors import UserError
from edge_router.ladders.resolve import find_ladder
from tests.edit_gguf import rewrite
from tests.engine_fixtures import N_CTX, tiny_llama_paths, tiny_paths

__all__ = ["tiny_llama_paths", "tiny_paths"]

TOKENS = "tokenizer.ggml.tokens"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def load(*paths: Path) -> None:
    specs = [TierSpec(f"t{i}", path) for i, path in enumerate(paths)]
    Ladder.load(specs, n_ctx=N_CTX, n_threads=1).close()


# -- what llama.cpp dies of -------------------------------------------------------------------


@pytest.mark.parametrize("twice", ["same", "[EMPTY_300]"])
def test_a_vocabulary_with_a_token_twice_is_refused_by_its_header(
    tiny_paths: dict[str, Path], tmp_path: Path, twice: str
) -> None:
    tokens = GGUFReader(tiny_paths["q8_0"]).fields[TOKENS].contents()
    tokens[299], tokens[300] = twice, "" if twice.startswith("[") else twice
    (path,) = rewrite(tiny_paths["q8_0"], tmp_path / "twice.gguf", change={TOKENS: tokens})
    with pytest.raises(UserError, match="the tokens 299 and 300 are the same"):
        read_header(path)


def with_value(source: Path, target: Path, key: str, value: bool | int) -> Path:
    """`source` again, saying `value` for `key` whether it said anything before or not."""
    if key in read_header(source).metadata:
        return rewrite(source, target, change={key: value})[0]
    kind = GGUFValueType.BOOL if isinstance(value, bool) else GGUFValueType.UINT32
    return rewrite(source, target, add={key: (value, kind)})[0]


def test_a_file_that_llama_cpp_dies_of_is_reported_in_a_sentence(
    tiny_paths: dict[str, Path], tmp_path: Path
) -> None:
    key, target = "qwen3.rope.dimension_count", tmp_path / "deadly.gguf"
    deadly = with_value(tiny_paths["q8_0"], target, key, 6)
    for _ in range(2):  # what failed is not remembered
        with pytest.raises(UserError, match=r"llama.cpp crashes when it loads .*deadly") as error:
            load(deadly)
        assert "\n" not in str(error.value)


def test_a_file_is_tried_once_and_never_again(
    tiny_paths: dict[str, Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust._passed.clear()
    header = read_header(tiny_paths["q8_0"])
    require_tried(header)
    (note,) = (home / "cache" / "tried").iterdir()
    assert note.name.startswith(gguf_sha256(header.path))
    trust._passed.clear()  # as in another process
    monkeypatch.setattr(sys, "executable", "/nowhere/python")  # a trial would fail
    require_tried(header)
    note.unlink()
    with pytest.raises(FileNotFoundError):
        require_tried(header)


def test_what_comes_with_edge_router_is_not_tried(home: Path) -> None:
    specs = find_ladder("household").tiers
    Ladder.load(specs, n_ctx=N_CTX, n_threads=1).close()
    assert not (home / "cache" / "tried").exists()


# -- what is not as promised ------------------------------------------------------------------


def test_weights_other_than_ladder_toml_says_are_refused(
    tiny_paths: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "m.gguf"
    content = bytearray(tiny_paths["q8_0"].read_bytes())
    path.write_bytes(content)
    spec = TierSpec("q8_0", path, sha256=gguf_sha256(path))
    Ladder.load([spec], n_ctx=N_CTX, n_threads=1).close()
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is not the file that ladder.toml has the SHA-256 of"):
        Ladder.load([spec], n_ctx=N_CTX, n_threads=1)


def test_a_checksum_is_remembered_until_the_file_changes_and_may_be_taken_anew(
    tiny_paths: dict[str, Path], tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny_paths["q8_0"].read_bytes())
    found = gguf_sha256(path)
    (note,) = (home / "cache" / "checksums").iterdir()
    note.write_text(note.read_text().replace(found, "0" * 64))
    assert gguf_sha256(path) == "0" * 64
    assert gguf_sha256(path, remembered=False) == found
    assert gguf_sha256(path) == found
    os.utime(path, (1, 1))
    note.write_text(note.read_text().replace(found, "0" * 64))
    assert gguf_sha256(path) == found
    with pytest.raises(UserError, match="SHA-256"):
        require_promised(TierSpec("a", path, sha256="0" * 64))


def test_a_cache_that_cannot_be_written_costs_time_alone(
    tiny_paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").touch()
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path))
    assert trust.gguf_sha256(tiny_paths["q8_0"]) == trust.gguf_sha256(tiny_paths["q8_0"])


# -- what means the same ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        *(("qwen3", "add_eos_token"), ("llama", "add_bos_token")),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (
                *(("qwen3", "add_bos_token"), ("qwen3", "add_space_prefix")),
                *(("llama", "add_eos_token"), ("llama", "add_space_prefix")),
            )
        ),
    ],
)
def test_tiers_that_only_leave_out_llama_cpps_default_belong_together(
    tiny_paths: dict[str, Path],
    tiny_llama_paths: dict[str, Path],
    tmp_path: Path,
    kind: str,
    key: str,
) -> None:
    paths = tiny_paths if kind == "qwen3" else tiny_llama_paths
    full = f"tokenizer.ggml.{key}"
    (silent,) = rewrite(paths["q3_k_m"], tmp_path / "silent.gguf", drop=[full])
    default = (kind, key) == ("llama", "add_bos_token")  # Llama 3's kind of BPE begins with one
    load(silent, with_value(paths["q8_0"], tmp_path / "shown.gguf", full, default))


@pytest.mark.parametrize("key", ["add_eos_token", "add_bos_token"])
def test_tiers_that_say_other_than_the_default_are_refused(
    tiny_paths: dict[str, Path], tmp_path: Path, key: str
) -> None:
    full = f"tokenizer.ggml.{key}"
    (silent,) = rewrite(tiny_paths["q3_k_m"], tmp_path / "silent.gguf", drop=[full])
    other = with_value(tiny_paths["q8_0"], tmp_path / "other.gguf", full, True)
    with pytest.raises(UserError, match=f"{key} is False in one and True in the other"):
        load(silent, other)


def test_dimensions_that_only_leave_out_the_default_belong_together(
    tiny_llama_paths: dict[str, Path], tmp_path: Path
) -> None:
    source = tiny_llama_paths["q3_k_m"]
    metadata = read_header(source).metadata
    names = ("attention.key_length", "attention.value_length", "rope.dimension_count")
    drop = [f"llama.{n}" for n in names if f"llama.{n}" in metadata]
    assert drop
    (silent,) = rewrite(source, tmp_path / "silent.gguf", drop=drop)
    load(silent, tiny_llama_paths["q8_0"])


def test_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(UserError, match="is a pipe or a device, not a file"):
            load(path)
