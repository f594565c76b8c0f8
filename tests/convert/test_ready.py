"""`models pull hf:...`: GGUFs of a repository become a ladder as they are, or one sentence why not.

A real hub in small, the real client, real files in llama.cpp.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_router.cli.main import main
from edge_router.convert import ready
from edge_router.engine.ladder import Ladder
from edge_router.engine.sampling import Sampler
from edge_router.files import whole
from edge_router.ladders.ladder_file import read_details
from edge_router.ladders.resolve import find_ladder, verify_files
from tests.edit_gguf import rewrite
from tests.hub import COMMIT, Hub, ask_here
from tests.tiny_gguf import write_tiny_ladder

REPO = "Org/Tiny-GGUF"
BOTH = ("--files", "q3_k_m,q8_0")


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One repository of a model, one of it in parts, one of other weights, one without GGUFs."""
    root, made = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("made")
    ours, other = (
        write_tiny_ladder(made / str(seed), tiers=("q3_k_m", "q8_0"), seed=seed) for seed in (0, 1)
    )
    for repo in ("Tiny-GGUF", "Parts-GGUF/Q8_0", "Mixed-GGUF", "Text"):
        (root / "Org" / repo).mkdir(parents=True)
    for tier, path in ours.items():
        shutil.copy(path, root / "Org" / "Tiny-GGUF" / f"Tiny-{tier.upper()}.gguf")
    shutil.copy(ours["q3_k_m"], root / "Org" / "Parts-GGUF" / "Tiny-Q3_K_M.gguf")
    parts = root / "Org" / "Parts-GGUF" / "Q8_0" / "Tiny-Q8_0.gguf"
    rewrite(ours["q8_0"], parts, tensors_a_part=12)
    parts.unlink(missing_ok=True)
    shutil.copy(ours["q3_k_m"], root / "Org" / "Mixed-GGUF" / "Tiny-Q3_K_M.gguf")
    shutil.copy(other["q8_0"], root / "Org" / "Mixed-GGUF" / "Tiny-Q8_0.gguf")
    (root / "Org" / "Text" / "README.md").write_text("nothing else")
    return root


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "cache" / "models"


@pytest.fixture
def hub(
    repositories: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    with Hub(repositories) as running:
        ask_here(monkeypatch, running.url, tmp_path / "hf")
        yield running


def pull(model: str = f"hf:{REPO}", *options: str) -> Result:
    return CliRunner().invoke(main, ["models", "pull", model, *options], prog_name="edge-router")


def refused(*arguments: str) -> str:
    result = pull(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.strip().splitlines()[-1]


def test_two_files_become_a_ladder_that_plays(hub: Hub, home: Path) -> None:
    result = pull(f"hf:{REPO}", "--files", "Q8_0, q3_k_m", "--name", "mine")
    assert result.exit_code == 0, result.output
    assert "edge-router play --model mine" in result.stdout
    ladder = find_ladder("mine")
    assert [tier.name for tier in ladder.tiers] == ["q3_k_m", "q8_0"]  # low to high, by size
    verify_files(home / "mine")
    source = read_details(home / "mine")["source"]
    assert (source["from"], source["revision"], source["architecture"]) == (REPO, COMMIT, "qwen3")
    with Ladder.load(ladder.tiers, n_ctx=64, n_threads=1) as loaded:
        loaded.prefill(loaded.vocab.tokenize("You are"))
        assert loaded.generate(1, Sampler(), max_tokens=2).decode_tokens


def test_what_is_here_is_not_asked_for_again(hub: Hub, home: Path) -> None:
    assert pull(f"hf:{REPO}", *BOTH).exit_code == 0
    hub.asked.clear()
    again = pull(REPO, "--files", "q8_0,q3_k_m")
    assert "tiny-gguf is here already" in again.stdout
    assert hub.asked == []
    (home / "tiny-gguf" / "Tiny-Q8_0.gguf").unlink()
    assert pull(f"hf:{REPO}", *BOTH).exit_code == 0
    assert not any("GET" in line and "Q3_K_M" in line for line in hub.asked)
    verify_files(home / "tiny-gguf")


def test_a_model_in_parts_and_in_a_folder_is_taken_whole(hub: Hub, home: Path) -> None:
    result = pull("hf:Org/Parts-GGUF", *BOTH)
    assert result.exit_code == 0, result.output
    low, high = find_ladder("parts-gguf").tiers
    assert high.path == home / "parts-gguf" / "Q8_0" / "Tiny-Q8_0-00001-of-00002.gguf"
    verify_files(home / "parts-gguf")
    with Ladder.load((low, high), n_ctx=64, n_threads=1) as loaded:
        assert loaded.names == ("q3_k_m", "q8_0")


def test_a_download_that_broke_goes_on_where_it_was(
    hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    hub.cut_after = 300_000
    assert pull(f"hf:{REPO}", *BOTH).exit_code == 0
    assert any("bytes=300000-" in line for line in hub.asked), hub.asked
    verify_files(home / "tiny-gguf")


def test_what_the_hugging_face_cache_holds_is_linked_and_not_downloaded(
    hub: Hub, home: Path, repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hf" / "hub" / "models--Org--Tiny-GGUF"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    snapshot = folder / "snapshots" / COMMIT
    shutil.copytree(repositories / "Org" / "Tiny-GGUF", snapshot)
    assert pull(f"hf:{REPO}", *BOTH).exit_code == 0
    assert not any("resolve" in line for line in hub.asked)
    ours = home / "tiny-gguf" / "Tiny-Q8_0.gguf"
    assert ours.samefile(snapshot / "Tiny-Q8_0.gguf")
    ask_here(monkeypatch, "", tmp_path / "hf")
    assert pull(f"hf:{REPO}", *BOTH, "--name", "offline").exit_code == 0
    (snapshot / "Tiny-Q8_0.gguf").unlink()
    assert ours.is_file()  # the cache may be emptied
    assert "HF_HUB_OFFLINE is set" in refused(f"hf:{REPO}", *BOTH, "--name", "other")
    assert not (home / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hf:Org/Absent", *BOTH], "there is no model Org/Absent on Hugging Face"),
        ([f"hf:{REPO}", *BOTH, "--revision", "v9"], f"{REPO} has no branch, tag or commit 'v9'"),
        ([f"hf:{REPO}", "--files", "q4_k_m,q8_0"], "no GGUF 'q4_k_m'; there are q3_k_m, q8_0"),
        ([f"hf:{REPO}", "--files", "tiny*,q8_0"], "could be Tiny-Q3_K_M or Tiny-Q8_0"),
        ([f"hf:{REPO}", "--files", "q8_0,*Q8_0.gguf"], "are one file, Tiny-Q8_0"),
        ([f"hf:{REPO}", "--files", "q8_0"], "names 1 GGUF, and a ladder needs two"),
        ([f"hf:{REPO}"], "say which GGUFs of Org/Tiny-GGUF make up the ladder"),
        (["hf:Org/Text", *BOTH], "convert its checkpoint: edge-router models pull Org/Text"),
        (["hf:nobody", *BOTH], "'nobody' is no Hugging Face id"),
        ([f"hf:{REPO}", *BOTH, "--tiers", "q8_0"], "--tiers is for checkpoints"),
        ([f"hf:{REPO}", *BOTH, "--name", "household"], "comes with edge-router"),
        ([REPO], f"take two of them as they are: edge-router models pull hf:{REPO}"),
        (["Org/Text", "--revision", "v1"], "--revision goes with --files"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence_and_leaves_nothing(
    hub: Hub, home: Path, arguments: list[str], said: str
) -> None:
    assert said in refused(*arguments)
    assert not home.exists() or not [f for f in home.rglob("*") if f.is_file()]


def test_a_model_that_asks_for_consent_says_where(hub: Hub, home: Path) -> None:
    hub.gated = True
    said = refused(f"hf:{REPO}", *BOTH)
    assert "accept its licence on https://huggingface.co/Org/Tiny-GGUF" in said
    assert not (home / "tiny-gguf").exists()


def test_files_of_two_models_are_refused_and_can_be_removed(hub: Hub, home: Path) -> None:
    said = refused("hf:Org/Mixed-GGUF", *BOTH)
    assert "are not builds of one model" in said
    assert not (home / "mixed-gguf" / "ladder.toml").exists()
    assert said.endswith("edge-router models rm mixed-gguf removes it)")
    done = CliRunner().invoke(main, ["models", "rm", "mixed-gguf", "--yes"])
    assert done.exit_code == 0
    assert not (home / "mixed-gguf").exists()


def test_another_ladder_of_that_name_is_left_alone(hub: Hub, home: Path) -> None:
    assert pull(f"hf:{REPO}", *BOTH, "--name", "mine").exit_code == 0
    before = (home / "mine" / "ladder.toml").read_bytes()
    said = refused("hf:Org/Parts-GGUF", *BOTH, "--name", "mine")
    assert f"holds a ladder from {REPO} already" in said
    assert (home / "mine" / "ladder.toml").read_bytes() == before


def test_a_full_disk_is_noticed_before_the_download(
    hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "free_bytes", lambda folder: 1000)
    assert "there is not enough room" in refused(f"hf:{REPO}", *BOTH)
    assert not any("resolve" in line for line in hub.asked)


def test_where_no_links_can_be_made_the_bytes_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    (tmp_path / "a").write_bytes(b"weights")
    monkeypatch.setattr(os, "link", refuse)
    ready._link(tmp_path / "a", tmp_path / "new" / "b")
    assert (tmp_path / "new" / "b").read_bytes() == b"weights"


def test_a_ladder_that_has_to_be_fetched_first_says_how() -> None:
    result = CliRunner().invoke(main, ["play", "--model", f"hf:{REPO}"])
    assert result.exit_code == 2
    assert f"edge-router models pull hf:{REPO} --files" in result.stderr
