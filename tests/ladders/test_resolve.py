"""Finding a ladder: embedded by name, a folder, or tiers named one by one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edge_router.errors import UserError
from edge_router.ladders.ladder_file import DEFAULT_ROUTER, read_ladder
from edge_router.ladders.resolve import embedded_ladders, resolve
from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec


def test_the_embedded_model_is_the_default_and_its_files_are_what_it_says() -> None:
    ladder = resolve(None, [])
    assert ladder.name == "household"
    text = (ladder.folder / "ladder.toml").read_text()
    for tier in ladder.tiers:
        assert hashlib.sha256(tier.path.read_bytes()).hexdigest() in text
    sizes = [tier.path.stat().st_size for tier in ladder.tiers]
    assert sizes == sorted(sizes)


def test_every_embedded_ladder_suggests_a_router_that_exists() -> None:
    for ladder in embedded_ladders():
        assert make_router(ladder.router).spec == ladder.router


def test_tiers_are_taken_in_the_order_given() -> None:
    ladder = resolve(None, ["low=a.gguf", "high=/x/b.gguf"])
    assert [t.name for t in ladder.tiers] == ["low", "high"]
    assert ladder.tiers[1].path == Path("/x/b.gguf")
    assert ladder.router == DEFAULT_ROUTER


def test_a_folder_with_a_ladder_file_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "ladder.toml").write_text(
        '[ladder]\nname = "mine"\nrouter = "low"\n[[tier]]\nname = "q8_0"\nfile = "m.gguf"\n'
    )
    ladder = resolve(str(tmp_path), [])
    assert (ladder.name, ladder.router) == ("mine", RouterSpec("low"))
    assert ladder.tiers[0].path == tmp_path / "m.gguf"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[ladder", "does not describe a ladder"),
        ('[[tier]]\nname = "a"\nfile = "b"\n', "'ladder' is missing"),
        ('tier = []\n[ladder]\nname = "x"\n', "names no tier"),
        ('[ladder]\nname = "x"\n[[tier]]\nname = "a"\n', "'file' is missing"),
        (
            '[ladder]\nname = "x"\nkv = "warm"\n[[tier]]\nname = "a"\nfile = "b"\n',
            "unknown KV mode 'warm': use handoff",
        ),
    ],
)
def test_a_broken_ladder_file_is_told_in_one_sentence(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "ladder.toml").write_text(text)
    with pytest.raises(UserError, match=why) as error:
        read_ladder(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "tiers", "why"),
    [
        ("no-such-model", [], "household"),
        ("model.gguf", [], "single GGUF"),
        ("household", ["a=b"], "exclude each other"),
        (None, ["just-a-path.gguf"], "NAME=PATH"),
        (None, ["=x"], "NAME=PATH"),
    ],
)
def test_what_is_no_model_is_refused_with_the_way_out(
    model: str | None, tiers: list[str], why: str
) -> None:
    with pytest.raises(UserError, match=why):
        resolve(model, tiers)


def test_a_folder_without_a_ladder_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--tier"):
        resolve(str(tmp_path), [])
