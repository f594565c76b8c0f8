"""In the folder of a ladder: what a conversion did not make it neither uses, nor changes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.torch import load_file

from edge_router.ladders.resolve import find_ladder
from tests.checkpoints import edit_json, write_checkpoint
from tests.conversions import files, refused, run

ONE = ("--tiers", "q8_0", "--no-verify")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "my-model", "qwen3")


@pytest.fixture
def interrupted(checkpoint: Path, tmp_path: Path) -> Path:
    """A folder as it is when a run was ended between the F16 file and the first tier."""
    out = tmp_path / "out"
    result = run(checkpoint, *ONE, "--keep-f16", "--out", out)
    assert result.exit_code == 0, result.output

    def take_back(journal: dict[str, Any]) -> None:
        journal["tiers"] = []
        (f16,) = journal["intermediates"]
        f16["stays"] = False

    edit_json(out / ".convert.json", take_back)
    (out / "my-model-q8_0.gguf").unlink()
    (out / "ladder.toml").unlink()
    return out


def norm_of(folder: Path) -> object:
    return load_file(folder / "model.safetensors")["model.norm.weight"].float().numpy()


def holds_weights_of(tier: Path, checkpoint: Path) -> bool:
    tensors = {t.name: t.data for t in GGUFReader(tier).tensors}
    return np.array_equal(tensors["output_norm.weight"], norm_of(checkpoint))  # type: ignore[arg-type]


def test_an_f16_file_of_weights_that_changed_since_is_made_again(
    checkpoint: Path, interrupted: Path
) -> None:
    shutil.rmtree(checkpoint)
    write_checkpoint(checkpoint, "qwen3", seed=1)  # trained again, into the same folder
    result = run(checkpoint, *ONE, "--out", interrupted)
    assert result.exit_code == 0, result.output
    assert holds_weights_of(interrupted / "my-model-q8_0.gguf", checkpoint)
    assert set(files(interrupted)) == {"my-model-q8_0.gguf", "ladder.toml"}


def test_an_f16_file_that_an_interrupted_run_left_is_used(
    checkpoint: Path, interrupted: Path
) -> None:
    result = run(checkpoint, *ONE, "--out", interrupted)
    assert result.exit_code == 0, result.output
    assert "F16: done" not in result.stderr
    assert holds_weights_of(interrupted / "my-model-q8_0.gguf", checkpoint)
    assert set(files(interrupted)) == {"my-model-q8_0.gguf", "ladder.toml"}


def test_another_file_in_the_place_of_ours_is_left_alone(
    checkpoint: Path, interrupted: Path, tmp_path: Path
) -> None:
    other = write_checkpoint(tmp_path / "other", "qwen3", seed=1)
    run(other, *ONE, "--keep-f16", "--name", "my-model", "--out", tmp_path / "b")
    shutil.copy(tmp_path / "b" / "my-model-f16.gguf", interrupted)
    before = files(interrupted)
    said = refused(checkpoint, *ONE, "--out", interrupted)
    assert "my-model-f16.gguf is there already and was not made by this conversion" in said
    assert files(interrupted) == before


@pytest.mark.parametrize("name", ["my-model-f16.gguf", "my-model-q8_0.gguf"])
@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_name_that_is_taken_is_reported_before_anything_is_written(
    kind: str, name: str, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if kind == "file":
        (out / name).write_bytes(b"mine")
    elif kind == "link":
        (out / name).symlink_to("nowhere")
    else:
        (out / name).mkdir()
    said = refused(checkpoint, *ONE, "--out", out)
    assert f"{name} is there already and was not made by this conversion; move it away" in said
    visible = [f.name for f in out.iterdir() if not f.name.startswith(".")]
    assert visible == [name]
    if kind == "file":
        assert (out / name).read_bytes() == b"mine"


def test_a_tier_of_the_same_size_with_other_content_is_not_taken_for_ours(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(checkpoint, *ONE, "--out", out)
    tier = out / "my-model-q8_0.gguf"
    content = bytearray(tier.read_bytes())
    content[-1] ^= 1
    tier.write_bytes(content)
    said = refused(checkpoint, *ONE, "--out", out)
    assert "my-model-q8_0.gguf is there already and was not made by this conversion" in said
    assert tier.read_bytes() == content


def test_what_was_asked_to_stay_stays(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(checkpoint, *ONE, "--keep-f16", "--out", out)
    assert run(checkpoint, "--tiers", "q4_k_m", "--no-verify", "--out", out).exit_code == 0
    assert "my-model-f16.gguf" in files(out)
    other = tmp_path / "other"
    run(checkpoint, "--tiers", "f16", "--no-verify", "--out", other)
    assert run(checkpoint, *ONE, "--out", other).exit_code == 0
    assert "my-model-f16.gguf" in files(other)  # it is a tier


def test_other_peoples_temporary_files_stay(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".video.partial").mkdir(parents=True)
    (out / ".download.gguf.123.partial").write_text("mine")
    (out / ".write-test").write_text("mine")
    assert run(checkpoint, *ONE, "--out", out).exit_code == 0
    for name in (".video.partial", ".download.gguf.123.partial", ".write-test"):
        assert (out / name).exists()


def test_a_source_in_the_same_folder_is_not_written_over(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    run(checkpoint, *ONE, "--keep-f16", "--out", made)
    out = tmp_path / "out"
    out.mkdir()
    source = Path(shutil.copy(made / "my-model-f16.gguf", out))
    content = source.read_bytes()
    monkeypatch.chdir(out)
    result = run("my-model-f16.gguf", "--tiers", "f16,q8_0", "--no-verify", "--out", out)
    assert result.exit_code == 0, result.output
    assert source.read_bytes() == content
    assert [t.name for t in find_ladder(str(out)).tiers] == ["q8_0", "f16"]


@pytest.mark.parametrize("script", ["random.py", "json.py", "types.py", "numpy.py", "copy.py"])
def test_scripts_in_the_current_folder_are_not_run(
    script: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / script).write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(folder)
    result = run(checkpoint, *ONE, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "ran").exists()
