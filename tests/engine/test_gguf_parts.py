"""Models in parts: the whole model is read, compared, hashed and loaded, whatever part it is in."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from gguf import GGUFValueType

from edge_router.engine.gguf_file import read_header
from edge_router.engine.ladder import Ladder, TierSpec
from edge_router.engine.sampling import Sampler
from edge_router.engine.trust import gguf_sha256
from edge_router.errors import UserError
from tests.edit_gguf import rewrite
from tests.engine_fixtures import N_CTX, tiny_paths

__all__ = ["tiny_paths"]


@pytest.fixture(scope="module")
def parts(
    tiny_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Path]]:
    """Tiers of the tiny model, cut at other places."""
    folder = tmp_path_factory.mktemp("parts")
    return {
        tier: rewrite(tiny_paths[tier], folder / f"{tier}.gguf", tensors_a_part=count)
        for tier, count in (("q3_k_m", 9), ("q8_0", 12))
    }


def continued(paths: dict[str, Path], tier: int) -> tuple[int, ...]:
    specs = [TierSpec(name, path) for name, path in paths.items()]
    with Ladder.load(specs, n_ctx=N_CTX, n_threads=1) as ladder:
        ladder.prefill(ladder.vocab.tokenize("You are in the middle of a room."))
        return ladder.generate(tier, Sampler(), max_tokens=8).tokens


def test_tiers_cut_at_other_places_play_as_the_whole_ones_do(
    tiny_paths: dict[str, Path], parts: dict[str, list[Path]]
) -> None:
    whole = {tier: tiny_paths[tier] for tier in parts}
    first = {tier: files[0] for tier, files in parts.items()}
    mixed = whole | {"q8_0": first["q8_0"]}
    assert continued(first, 1) == continued(mixed, 1) == continued(whole, 1)


def test_the_header_is_that_of_the_whole_model(
    tiny_paths: dict[str, Path], parts: dict[str, list[Path]]
) -> None:
    whole, header = read_header(tiny_paths["q8_0"]), read_header(parts["q8_0"][0])
    assert {t.name: (t.shape, t.type_name) for t in header.tensors.values()} == {
        t.name: (t.shape, t.type_name) for t in whole.tensors.values()
    }
    assert header.parts == tuple(parts["q8_0"])
    assert header.size_bytes == sum(file.stat().st_size for file in parts["q8_0"])


def test_the_sha256_is_that_of_all_parts_joined(parts: dict[str, list[Path]]) -> None:
    joined = b"".join(file.read_bytes() for file in parts["q8_0"])
    assert gguf_sha256(parts["q8_0"][0]) == hashlib.sha256(joined).hexdigest()


def copied(files: list[Path], folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    return [Path(shutil.copy(file, folder)) for file in files]


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read_header(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_part_is_named(parts: dict[str, list[Path]], tmp_path: Path) -> None:
    files = copied(parts["q3_k_m"], tmp_path)
    files[1].unlink()
    assert f"part 2, {files[1]}, is missing" in refused(files[0])


def test_another_part_than_the_first_says_which_to_give(parts: dict[str, list[Path]]) -> None:
    files = parts["q3_k_m"]
    assert refused(files[1]).endswith(f"is part 2 of {len(files)} of a model; give the first part,"
                                      f" {files[0]}")  # fmt: skip


def test_a_renamed_first_part_says_its_name(parts: dict[str, list[Path]], tmp_path: Path) -> None:
    files = copied(parts["q3_k_m"], tmp_path)
    renamed = files[0].rename(tmp_path / "model.gguf")
    assert f"call it model-00001-of-{len(files):05d}.gguf again" in refused(renamed)


def test_parts_that_do_not_belong_together_are_refused(
    tiny_paths: dict[str, Path], parts: dict[str, list[Path]], tmp_path: Path
) -> None:
    files = copied(parts["q3_k_m"], tmp_path)
    shutil.copy(files[0], files[1])
    assert "does not say that it is part 2" in refused(files[0])
    shutil.copy(tiny_paths["q8_0"], files[1])
    assert "does not say that it is part 2" in refused(files[0])
    marks = {"no": 1, "count": len(files), "tensors.count": 1}
    add = {f"split.{key}": (value, GGUFValueType.UINT16) for key, value in marks.items()}
    rewrite(tiny_paths["q8_0"], files[1], add=add)
    assert "which an earlier part has too" in refused(files[0])
    cut = copied(parts["q3_k_m"], tmp_path)
    cut[1].write_bytes(cut[1].read_bytes()[:-64])
    assert f"{cut[1]} is truncated" in refused(cut[0])
