"""A model card and sampling values are decoration: what is broken is left out and reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gguf import GGUFReader

from tests.checkpoints import write_checkpoint, write_f16


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "Tiny-Qwen3", "qwen3")


def shown(folder: Path) -> tuple[str, ...]:
    """What converting says; the file is `folder`.gguf."""
    target = folder.with_suffix(".gguf")
    return write_f16(folder, target, check=False)


def written(folder: Path, key: str) -> object:
    field = GGUFReader(folder.with_suffix(".gguf")).fields.get(key)
    return None if field is None else field.contents()


@pytest.mark.parametrize(
    ("front", "about"),
    [
        ("base_model: a: b", "cannot be read"),
        ("language: {{ language }}", "cannot be read"),
        ("tags:\n-", "tags is left out"),
        ("tags:\n- 2024\n- text", "tags is left out"),
        ("language:\n- en\n- false", "languages is left out"),
        ("model_name: 2024-01-01", "name is left out"),
        ("license: {name: x}", "license is left out"),
        ("datasets:\n- {name: 3}", "datasets is left out"),
        ('author: "\\ud800"', "left out"),
        ("- a list", ""),
    ],
)
def test_a_broken_model_card_is_left_out(front: str, about: str, checkpoint: Path) -> None:
    (checkpoint / "README.md").write_text(f"---\nlicense: mit\n{front}\n---\nText.\n")
    if "license" in front or front.startswith("-"):
        (checkpoint / "README.md").write_text(f"---\n{front}\n---\nText.\n")
    said = shown(checkpoint)
    if about:
        (line,) = said
        assert line.startswith("README.md")
        assert about in line
    assert written(checkpoint, "general.name")


def test_a_card_that_is_not_utf8_is_left_out(checkpoint: Path) -> None:
    (checkpoint / "README.md").write_bytes(b"---\nauthor: Jos\xe9\n---\n")
    (line,) = shown(checkpoint)
    assert line.startswith("README.md is left out, it cannot be read")


def test_the_good_parts_of_a_card_are_taken_over(checkpoint: Path) -> None:
    (checkpoint / "README.md").write_text(
        "---\nlicense: [mit, apache-2.0]\nlanguage: en\ntags: [1]\nbase_model: a/b\n---\n"
    )
    shown(checkpoint)
    assert written(checkpoint, "general.license") == "mit,apache-2.0"
    assert written(checkpoint, "general.languages") == ["en"]
    assert written(checkpoint, "general.base_model.0.repo_url") == "https://huggingface.co/a/b"
    assert written(checkpoint, "general.tags") is None


@pytest.mark.parametrize(
    ("settings", "top_k", "temperature", "left_out"),
    [
        ({"top_k": 50.0, "temperature": 0.5}, 50, 0.5, ""),
        ({"top_k": 50, "temperature": "0.7"}, 50, None, "temperature"),
        ({"top_k": 1.5, "temperature": 1}, None, 1.0, "top_k"),
        ({"top_k": True, "temperature": None}, None, None, "top_k"),
        ({"top_k": 10**12}, None, None, "top_k"),
        ({"temperature": 1e300}, None, None, "temperature"),
        ({"temperature": 10**400}, None, None, "temperature"),
        ({"temperature": [0.7]}, None, None, "temperature"),
    ],
)
def test_broken_sampling_values_are_left_out(
    settings: dict[str, object],
    top_k: int | None,
    temperature: float | None,
    left_out: str,
    checkpoint: Path,
) -> None:
    (checkpoint / "generation_config.json").write_text(json.dumps(settings))
    said = shown(checkpoint)
    assert written(checkpoint, "general.sampling.top_k") == top_k
    assert written(checkpoint, "general.sampling.temp") == temperature
    assert [line.split()[1] for line in said] == ([left_out] if left_out else [])


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"null"])
def test_a_generation_config_that_cannot_be_read_is_left_out(
    content: bytes, checkpoint: Path
) -> None:
    (checkpoint / "generation_config.json").write_bytes(content)
    (line,) = shown(checkpoint)
    assert line.startswith("generation_config.json is left out")
