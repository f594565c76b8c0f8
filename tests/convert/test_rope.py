"""Every field of a rope has in llama.cpp the effect that it has in transformers, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from edge_router.convert.source import open_source
from edge_router.errors import UserError
from tests.checkpoints import edit_json, write_checkpoint
from tests.convert.test_parity import converted, max_kl

YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 256,
}


def with_rope(folder: Path, family: str, rope: dict[str, Any]) -> Path:
    write_checkpoint(folder, family)
    edit_json(folder / "config.json", lambda config: config.update(rope_parameters=rope))
    return folder


ARCHITECTURES = ("qwen3-yarn", "llama3", "qwen2")
FIELDS: tuple[dict[str, Any], ...] = (
    {"attention_factor": 1.0},
    {"attention_factor": 0.7},
    {"mscale": 1.0, "mscale_all_dim": 0.5},
    {"mscale": 0.707, "mscale_all_dim": 0.707},
    {"mscale": 2.0},  # alone it has no effect
    {"beta_fast": 32, "beta_slow": None, "truncate": True, "attention_factor": None},
    {"factor": 8.0},  # and the ratio of the contexts is another
)


def pairs() -> list[ParameterSet]:
    """All of them; fast are those that have each field once, on the architectures in turn."""
    slow = pytest.mark.slow
    return [
        pytest.param(family, fields, marks=() if n % len(ARCHITECTURES) == m else slow)
        for n, fields in enumerate(FIELDS)
        for m, family in enumerate(ARCHITECTURES)
    ]


@pytest.mark.parametrize(("family", "fields"), pairs(), ids=str)
def test_yarn_has_the_effect_it_has_in_transformers(
    family: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    folder = with_rope(tmp_path / "yarn", family, YARN | fields)
    assert max_kl(folder, converted(folder)) < 1e-4


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("plain") / "ck", "qwen3")


@pytest.mark.parametrize(
    ("rope", "why"),
    [
        (YARN | {"beta_fast": 8.0}, "yarn with beta_fast 8.0, beta_slow 1.0"),
        (YARN | {"beta_slow": 4}, "yarn with beta_fast 32.0, beta_slow 4"),
        (YARN | {"truncate": False}, "truncate false"),
        (YARN | {"factor": "4.0"}, "the rope's factor is '4.0', which is not a number"),
        (YARN | {"attention_factor": "1"}, "the rope's attention_factor is '1'"),
        (YARN | {"rope_theta": None}, "the rope's rope_theta is None|cannot be understood"),
        ({"rope_type": "linear", "factor": "2"}, "the rope's factor is '2'"),
        ({"rope_type": "linear", "factor": 0.0}, r"factor is 0\.0 and must be more than 0"),
        ({"rope_type": "linear"}, "factor"),
        (
            {"full_attention": {"rope_type": "yarn"}, "rope_type": "default"},
            "another rope for each kind of layer|cannot be understood",
        ),
        (
            {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 256,
            },
            "'llama3', which llama.cpp has for Llama and Mistral alone",
        ),
    ],
    ids=str,
)
def test_what_llama_cpp_lacks_is_refused(rope: dict[str, Any], why: str, plain: Path) -> None:
    edit_json(plain / "config.json", lambda config: config.update(rope_parameters=rope))
    source = open_source(plain)
    with pytest.raises(UserError, match=why) as error:
        _ = source.n_parameters  # reads config.json, and no weight
    assert "\n" not in str(error.value)
