"""What is given in the place of a checkpoint or a GGUF is taken, or called by its name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edge_router.ladders.resolve import find_ladder
from tests.checkpoints import write_checkpoint
from tests.conversions import files, refused, run
from tests.tiny_gguf import write_tiny


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "m", "qwen3")


@pytest.mark.parametrize(
    ("called", "name"), [("Model-F16.GGUF", "model"), ("sha256-0123", "sha256-0123")]
)
def test_a_gguf_is_known_by_its_content(called: str, name: str, tmp_path: Path) -> None:
    source = shutil.copy(write_tiny(tmp_path), tmp_path / called)
    result = run(source, "--tiers", "q8_0", "--no-verify", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert find_ladder(str(tmp_path / "out")).name == name


def test_a_big_endian_gguf_is_called_so(tmp_path: Path) -> None:
    source = write_tiny(tmp_path)
    content = bytearray(source.read_bytes())
    content[4:8] = content[4:8][::-1]
    source.write_bytes(content)
    said = refused(source, "--out", tmp_path / "out")
    assert "is a big-endian GGUF" in said
    assert "gguf-convert-endian" in said


def test_a_file_of_a_checkpoint_names_its_folder(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        said = refused(checkpoint / name, "--out", tmp_path / "out")
        assert f"give the folder that holds it, {checkpoint}" in said
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    assert "is a PyTorch file" in refused(tmp_path / "pytorch_model.bin", "--out", tmp_path / "out")
    (tmp_path / "notes").write_text("hello")
    assert "is neither a GGUF nor a folder" in refused(tmp_path / "notes", "--out", tmp_path / "o")


def test_a_folder_of_ggufs_names_one(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "ggufs")
    assert f"it holds GGUFs; give the path of an unquantised one, as {source}" in refused(
        source.parent, "--out", tmp_path / "out"
    )


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("https://huggingface.co/Qwen/Qwen3-0.6B", "give the model's id, Qwen/Qwen3-0.6B"),
        ("https://hf.co/Qwen/Qwen3-0.6B/tree/main", "give the model's id, Qwen/Qwen3-0.6B"),
        ("hf://Qwen/Qwen3-0.6B", "give the model's id, Qwen/Qwen3-0.6B"),
        ("https://example.org/model-f16.gguf", "download it and give the path"),
    ],
)
def test_a_url_is_called_so(url: str, advice: str, tmp_path: Path) -> None:
    said = refused(url, "--out", tmp_path / "out")
    assert f"{url} is a URL; {advice}" in said


@pytest.mark.parametrize("config", [False, True])
def test_an_adapter_is_called_so(config: bool, checkpoint: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen3-0.6B"}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    shutil.copy(checkpoint / "model.safetensors", adapter / "adapter_model.safetensors")
    if config:
        shutil.copy(checkpoint / "config.json", adapter)
    said = refused(adapter, "--out", tmp_path / "out")
    assert "is a PEFT adapter, which has only the changes to Qwen/Qwen3-0.6B: give" in said
    assert "edge-router convert Qwen/Qwen3-0.6B --adapter " in said


def test_a_merged_model_beside_its_adapter_config_converts(
    checkpoint: Path, tmp_path: Path
) -> None:
    (checkpoint / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    result = run(checkpoint, "--tiers", "q8_0", "--no-verify", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x02\x00\x00\x00\xff", "imatrix.dat of llama.cpp before July 2025"),
        (b"\x02\x00\x00\x00\x15\x00\x00\x00blk.0.ffn_down.weight", "before July 2025"),
        (b" \n", "is empty"),
    ],
)
def test_what_is_no_matrix_is_refused_before_anything_is_written(
    content: bytes, why: str, checkpoint: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "imatrix.dat", tmp_path / "out"
    file.write_bytes(content)
    said = refused(checkpoint, "--tiers", "iq3_s", "--imatrix", file, "--out", out)
    assert why in said
    assert not out.exists() or files(out) == {}
