"""What is wrong with a checkpoint is reported in one sentence, before anything is written."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from edge_router.convert.checkpoint import INDEX, Checkpoint
from edge_router.convert.source import CheckpointSource, open_source
from edge_router.errors import UserError
from tests.checkpoints import edit_json, write_checkpoint, write_f16


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in four shards."""
    return write_checkpoint(tmp_path_factory.mktemp("good") / "ck", "qwen3", shard="1MB")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(good, tmp_path / "ck"))


def first_shard(folder: Path) -> Path:
    return sorted(folder.glob("*.safetensors"))[0]


def plan(folder: Path) -> None:
    """Everything that is checked before the first byte is written."""
    source = open_source(folder)
    assert isinstance(source, CheckpointSource)
    assert source.planned


def remove_shard(folder: Path) -> None:
    first_shard(folder).unlink()


def cut_shard(folder: Path) -> None:
    content = first_shard(folder).read_bytes()
    first_shard(folder).write_bytes(content[: len(content) // 2])


def cut_header(folder: Path) -> None:
    first_shard(folder).write_bytes(first_shard(folder).read_bytes()[:100])


def empty_shard(folder: Path) -> None:
    first_shard(folder).write_bytes(b"")


def git_lfs_pointer(pattern: str) -> Callable[[Path], object]:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 499723\n"
    return lambda folder: sorted(folder.glob(pattern))[0].write_text(pointer)


def no_json_in_shard(folder: Path) -> None:
    first_shard(folder).write_bytes((64).to_bytes(8, "little") + b"x" * 64)


def without_tensor(folder: Path) -> None:
    for shard in folder.glob("*.safetensors"):
        tensors = load_file(shard)
        if tensors.pop("model.norm.weight", None) is not None:
            save_file(tensors, shard, metadata={"format": "pt"})


def fp8(folder: Path) -> None:
    header = b'{"w":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}'
    first_shard(folder).write_bytes(len(header).to_bytes(8, "little") + header + b"0000")


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "config.json", lambda data: data.update(changes))


def layers(count: int) -> Callable[[Path], None]:
    return config(num_hidden_layers=count, layer_types=["full_attention"] * count)


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: shutil.rmtree(f), "there is no checkpoint folder"),
    (lambda f: (f / "config.json").unlink(), "is not a Hugging Face checkpoint"),
    (lambda f: (f / "config.json").write_text("{"), "cannot be read as a model's configuration"),
    (lambda f: (f / "config.json").write_text("[]"), "holds no JSON object"),
    (remove_shard, "is not complete: model.safetensors.index.json names"),
    (cut_shard, "is cut off"),
    (cut_header, "is cut off"),
    (empty_shard, "is cut off"),
    (git_lfs_pointer("*.safetensors"), r"model-00001.*is not the file itself.*git lfs pull"),
    (git_lfs_pointer("config.json"), "config.json is not the file itself"),
    (git_lfs_pointer("tokenizer.json"), "tokenizer.json is not the file itself"),
    (no_json_in_shard, "is damaged: its header cannot be read"),
    (without_tensor, "lacks the tensor model.norm.weight"),
    (fp8, "is F8_E4M3, and only F32, F16 and BF16"),
    (lambda f: (f / INDEX).write_text("{}"), "names no weights"),
    (config(architectures=["GemmaForCausalLM"]), "is a GemmaForCausalLM.*supported are Llama"),
    (config(architectures=None), "is a nothing, which cannot be converted"),
    (config(architectures=["MixtralForCausalLM"]), "is a MixtralForCausalLM"),
    (config(quantization_config={"quant_method": "gptq"}), r"is quantised already \(gptq\)"),
    (config(hidden_act="gelu"), "uses the activation 'gelu'"),
    (config(rope_parameters={"rope_type": "dynamic", "factor": 2.0}), "scales its rope by"),
    (layers(3), "lacks the tensor model.layers.2.input_layernorm.weight"),
    (layers(1), "has a tensor model.layers.1"),
    (
        config(intermediate_size=500),
        r"wants model.layers.0.mlp.gate_proj.weight to be \(500, 256\)",
    ),
    (config(tie_word_embeddings=False), "lacks the tensor lm_head.weight"),
    (config(architectures="GemmaForCausalLM"), "is a GemmaForCausalLM"),
    (config(quantization_config="int8"), r"is quantised already \(int8\)"),
    (config(hidden_size="256"), "hidden_size"),
    (config(rms_norm_eps="1e-6"), "rms_norm_eps"),
    (config(num_hidden_layers=None), "num_hidden_layers"),
]


@pytest.mark.parametrize(("damage", "why"), DAMAGE, ids=[why for _, why in DAMAGE])
def test_damage_is_reported_in_one_sentence(
    folder: Path, damage: Callable[[Path], object], why: str
) -> None:
    plan(folder)
    damage(folder)
    with pytest.raises(UserError, match=why) as error:
        plan(folder)
    assert "\n" not in str(error.value)


def test_a_null_is_a_default_or_reported(folder: Path) -> None:
    """Never an exception of another kind, whichever key of the configuration is null."""
    whole = (folder / "config.json").read_text()
    optional = {"quantization_config", "rope_scaling", "sliding_window", "torch_dtype"}
    for key in sorted(json.loads(whole).keys() | optional):
        config(**{key: None})(folder)
        if key in optional:
            plan(folder)
        else:
            with contextlib.suppress(UserError):
                plan(folder)
        (folder / "config.json").write_text(whole)


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_quantization_config_is_none(
    nothing: dict[str, str] | None, folder: Path, tmp_path: Path
) -> None:
    config(quantization_config=nothing)(folder)
    write_f16(folder, tmp_path / "x.gguf")


def test_a_missing_padding_token_of_minus_one_is_none(folder: Path, tmp_path: Path) -> None:
    config(pad_token_id=-1)(folder)
    write_f16(folder, tmp_path / "x.gguf")


def test_weights_that_are_programs_are_not_read(folder: Path) -> None:
    for file in [*folder.glob("*.safetensors"), folder / INDEX]:
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"PyTorch \.bin files, which are programs"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_missing_or_broken_tokenizer_is_reported(folder: Path, name: str, tmp_path: Path) -> None:
    (folder / name).write_text("{")
    with pytest.raises(UserError, match=r"the tokenizer in .* cannot be read") as error:
        write_f16(folder, tmp_path / "x.gguf")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.gguf"))


@pytest.mark.parametrize("check", [True, False])
def test_a_checkpoint_without_a_tokenizer_is_reported_what_to_do(
    folder: Path, check: bool, tmp_path: Path
) -> None:
    for file in folder.glob("token*"):
        file.unlink()
    with pytest.raises(UserError, match=r"holds no tokenizer .*; copy it") as error:
        write_f16(folder, tmp_path / "x.gguf", check=check)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.gguf"))


def test_weights_that_are_no_numbers_are_refused(folder: Path, tmp_path: Path) -> None:
    shard = first_shard(folder)
    tensors = load_file(shard)
    name = next(n for n, t in tensors.items() if t.ndim == 2)
    tensors[name][0, 0] = torch.nan
    save_file(tensors, shard)
    with pytest.raises(UserError, match=f"the tensor {name} holds values that are no numbers"):
        write_f16(folder, tmp_path / "x.gguf", check=False)
    assert list(tmp_path.glob("*")) == [folder]


def test_the_fingerprint_knows_the_weights_and_not_the_clock(folder: Path) -> None:
    before = Checkpoint.open(folder).fingerprint()
    shard = first_shard(folder)
    content = shard.read_bytes()
    shard.write_bytes(content)
    assert Checkpoint.open(folder).fingerprint() == before
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert Checkpoint.open(folder).fingerprint() != before
    shard.write_bytes(content)
    for at in (len(content) // 3, 2 * len(content) // 3):  # any tensor, not the file's ends
        shard.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert Checkpoint.open(folder).fingerprint() != before
    shard.write_bytes(content)
    edit_json(folder / "tokenizer_config.json", lambda data: data.update(chat_template="x"))
    assert Checkpoint.open(folder).fingerprint() != before


def test_bfloat16_is_widened_exactly(folder: Path) -> None:
    for tensor in list(Checkpoint.open(folder).tensors.values())[:4]:
        wanted = load_file(tensor.file)[tensor.name].float().numpy()
        assert np.array_equal(tensor.load(), wanted)
        pieces = np.concatenate(list(tensor.rows(97)))
        assert np.array_equal(pieces, wanted.reshape(-1))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_shard_is_read_or_refused(data: st.DataObject, good: Path) -> None:
    """Bytes of the header changed, or the file cut anywhere: no other exception comes out."""
    shard = first_shard(good)
    content = bytearray(shard.read_bytes()[:4000])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) :]
    single = good.parent / "single"
    single.mkdir(exist_ok=True)
    (single / "config.json").write_text(json.dumps({}))
    (single / "model.safetensors").write_bytes(bytes(content))
    with contextlib.suppress(UserError):
        Checkpoint.open(single)
