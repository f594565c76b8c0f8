"""ladder.toml is written in one place, as the reader understands it, and keeps a fitting router."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edge_router.errors import UserError
from edge_router.ladders import ladder_file
from edge_router.ladders.catalogue import shipped_folders
from edge_router.ladders.ladder_file import (
    Measured,
    TierEntry,
    adopt_router,
    read_details,
    read_ladder,
    set_router,
    write_ladder,
)
from edge_router.ladders.resolve import find_ladder
from train.lm.export import LADDERS, NAME, describe
from train.lm.export import ROUTER as THRESHOLD
from train.router.run import SCHEMA
from train.router.ship import main as ship

SHIPPED = find_ladder(NAME).folder


def entry(name: str, sha256: str = "0" * 64) -> TierEntry:
    return TierEntry(name, f"{name}.gguf", sha256, 7)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    """Texts with quotes, escapes and other alphabets as well."""
    told, file = 'a "quoted" \\ [/x] \u00e9\u4e2d \x1b[31m', "sub dir/\u00fc.gguf"
    tiers = [
        TierEntry(
            *("low", file, "1" * 64, 10),
            facts={"imatrix": "auto"},
            measured={"text": Measured({"kl": 0.5}, "against F16, 3 tokens")},
        ),
        entry("high"),
    ]
    ladder = {"name": "mine", "prompt": "react"}
    write_ladder(tmp_path / "new", ladder, tiers, source={"from": told})
    read = read_ladder(tmp_path / "new")
    assert (read.name, read.prompt) == ("mine", "react")
    assert [t.name for t in read.tiers] == ["low", "high"]
    assert read.tiers[0].path == tmp_path / "new" / file
    details = read_details(tmp_path / "new")
    assert details["tier"][0]["text"]["kl"] == 0.5
    assert details["source"]["from"] == told
    assert "# against F16, 3 tokens" in (tmp_path / "new" / "ladder.toml").read_text()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["ladder.toml"]


def test_the_same_tiers_keep_their_router_and_new_weights_do_not(tmp_path: Path) -> None:
    told = {"name": "mine", "prompt": "react", "router": "entropy:0.1"}
    write_ladder(tmp_path, told, [entry("low"), entry("high")])
    set_router(tmp_path, "margin:0.25")
    write_ladder(tmp_path, told, [entry("low"), entry("high")])
    assert str(read_ladder(tmp_path).router) == "margin:0.25"
    write_ladder(tmp_path, told, [entry("low", "f" * 64), entry("high")])
    assert str(read_ladder(tmp_path).router) == "entropy:0.1"


def test_a_kv_mode_is_suggested_beside_the_router_and_goes_with_it(tmp_path: Path) -> None:
    told, tiers = {"name": "mine"}, [entry("low"), entry("high")]
    write_ladder(tmp_path, told, tiers)
    assert read_ladder(tmp_path).kv == "handoff"
    set_router(tmp_path, "margin:0.25", kv="exact")
    write_ladder(tmp_path, told, tiers)
    assert read_ladder(tmp_path).kv == "exact"
    set_router(tmp_path, "low")
    assert read_ladder(tmp_path).kv == "handoff"
    assert "kv" not in read_details(tmp_path)["ladder"]


def test_a_trained_router_is_adopted_with_its_kv_mode_by_the_tiers_it_was_trained_for(
    tmp_path: Path,
) -> None:
    router = SHIPPED / "router.onnx"
    write_ladder(tmp_path / "other", {"name": "mine"}, [entry("low"), entry("high")])
    with pytest.raises(UserError, match="iq1_s"):
        adopt_router(tmp_path / "other", router, kv="exact")
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["ladder.toml"]
    assert read_ladder(tmp_path / "other").kv == "handoff"
    names = [tier.name for tier in find_ladder(NAME).tiers]
    write_ladder(tmp_path / "same", {"name": "mine"}, [entry(name) for name in names])
    adopt_router(tmp_path / "same", router, kv="exact")
    found = read_ladder(tmp_path / "same")
    assert (found.router.file, found.kv) == (tmp_path / "same" / "router.onnx", "exact")
    assert (tmp_path / "same" / "router.onnx").read_bytes() == router.read_bytes()


def test_a_router_is_set_and_the_rest_stays_as_it_was(tmp_path: Path) -> None:
    text = (SHIPPED / "ladder.toml").read_text()
    (tmp_path / "ladder.toml").write_text(f"# mine\n{text}")
    set_router(tmp_path, "low")
    changed = (tmp_path / "ladder.toml").read_text()
    assert changed == f"# mine\n{text}".replace('"onnx:router.onnx"', '"low"')
    with pytest.raises(UserError):
        set_router(tmp_path / "absent", "low")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the ladders that come with the package, which may share files."""
    monkeypatch.setattr(ladder_file, "shipped_folders", lambda: (tmp_path,))
    for name in LADDERS:
        source = next(f / name for f in shipped_folders() if (f / name).is_dir())
        shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("*.png", "*.md"))
    return tmp_path


def test_exporting_the_same_model_again_changes_no_ladder(models: Path) -> None:
    before = [read_details(models / name) for name in LADDERS]
    for name, tiers in LADDERS.items():
        describe(name, models, tiers)
    assert [read_details(models / name) for name in LADDERS] == before


def test_a_new_model_gets_the_threshold_and_its_new_router_takes_over(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder = tmp_path / "run", models / NAME
    run.mkdir()
    (folder / "router.onnx").rename(run / "router.onnx")
    (run / "router-training.png").write_bytes(b"picture")
    (run / "export.json").write_text(json.dumps({"schema": SCHEMA, "kv": "exact"}))
    with (folder / f"{NAME}-q8_0.gguf").open("ab") as file:
        file.write(b"other weights")
    describe(NAME, models, LADDERS[NAME])
    assert str(read_ladder(folder).router) == THRESHOLD
    assert ship([str(run), str(folder)]) == 0
    assert str(read_ladder(folder).router) == f"onnx:{folder / 'router.onnx'}"
    assert read_ladder(folder).kv == "exact"
    assert (folder / "router-training.png").is_file()
    assert ship([str(run), str(models / "household-3")]) == 2
    assert "trained for 2 tiers" in capsys.readouterr().err
    assert str(read_ladder(models / "household-3").router) == THRESHOLD
