"""`edge-router models`: what is here, what can be fetched, fetching it, and removing it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_router.cli.main import main
from edge_router.engine.gguf_file import read_header
from edge_router.ladders.catalogue import catalogue
from edge_router.ladders.resolve import embedded_ladders, find_ladder
from tests.checkpoints import write_checkpoint
from tests.hub import COMMIT, Hub

# Parameters as the model cards give them, in thousand millions.
PUBLISHED = {
    "qwen3-0.6b": 0.60,
    "qwen3-1.7b": 1.72,
    "qwen3-4b": 4.02,
    "qwen3-8b": 8.19,
    "qwen2.5-1.5b-instruct": 1.54,
    "qwen2.5-7b-instruct": 7.61,
    "llama-3.2-1b-instruct": 1.24,
    "llama-3.2-3b-instruct": 3.21,
    "smollm2-1.7b-instruct": 1.71,
    "household-smol": 0.1345,
    "deepseek-r1-distill-llama-8b": 8.03,
}
WITHOUT_PYTORCH = """
import sys
sys.modules["torch"] = None
from edge_router.cli.main import main
main(prog_name="edge-router")
"""
LARGE_FILE = "model-padding.safetensors"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["models", *map(str, arguments)], prog_name="edge-router")


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    return line


# -- what is here -----------------------------------------------------------------------------


def test_the_list_has_what_is_here_and_what_can_be_fetched() -> None:
    result = run("list")
    here, _, rest = result.stdout.partition("to fetch")
    assert "household" in here
    assert all(f"{tier.name} " in here for tier in find_ladder("household").tiers)
    for name, model in catalogue().items():
        assert len([line for line in rest.splitlines() if line.split()[:1] == [name]]) == 2
        assert model.licence in " ".join(rest.split())
    assert max(map(len, result.stdout.splitlines())) <= 80
    lines = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    embedded = len(list(embedded_ladders()))
    assert [line["here"] for line in lines] == [True] * embedded + [False] * len(catalogue())


def test_the_catalogue_knows_how_large_its_models_are() -> None:
    assert set(catalogue()) == set(PUBLISHED)
    for name, model in catalogue().items():
        assert model.parameters / 1e9 == pytest.approx(PUBLISHED[name], rel=0.01)
        assert model.tier_bytes("q4_k_m") < model.tier_bytes("q8_0")
        assert model.recipe or model.tier_bytes("q8_0") < model.download_bytes
        assert model.pair_memory_bytes("q4_k_m", "q8_0") > model.tier_bytes("q4_k_m")


def test_show_tells_of_a_ladder_and_of_a_model_that_is_not_here() -> None:
    shown = run("show", "household").stdout
    assert "sha256 " in shown
    assert str(find_ladder("household").router) in shown
    absent = run("show", "qwen3-4b").stdout
    assert "https://huggingface.co/Qwen/Qwen3-4B" in absent
    assert "edge-router models pull qwen3-4b" in absent
    assert json.loads(run("show", "household", "--json").stdout)["ladder"]["name"] == "household"


def test_show_verify_notices_what_was_changed(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(find_ladder("household").folder, copy)
    assert "files are what ladder.toml says" in run("show", copy, "--verify").stdout
    file = copy / find_ladder("household").tiers[-1].path.name
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert (
        "is not the file that ladder.toml has the SHA-256 of" in refused("show", copy, "--verify")
        or run("show", copy).exit_code == 0
    )
    file.write_bytes(content[:-1])
    assert f"ladder.toml says {len(content)}" in _last_line("show", copy, "--verify")
    file.unlink()
    assert "is missing" in _last_line("show", copy, "--verify")


def _last_line(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2
    return result.stderr.strip().splitlines()[-1]


def test_path_prints_the_folder() -> None:
    assert Path(run("path", "household").stdout.strip()) == find_ladder("household").folder


@pytest.mark.parametrize("command", ["show", "path"])
def test_an_unknown_model_is_told_with_what_there_is(command: str) -> None:
    assert "there is no model 'nosuch'" in refused(command, "nosuch")


def test_a_model_of_the_catalogue_that_is_not_here_says_how_to_get_it() -> None:
    assert "run: edge-router models pull qwen3-4b" in refused("path", "qwen3-4b")


# -- fetching ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the hub serves: one repository, with a file that is not wanted."""
    root = tmp_path_factory.mktemp("hub")
    folder = write_checkpoint(root / "Org" / "Tiny-Model", "qwen3")
    (folder / "pytorch_model.bin").write_bytes(b"not wanted")
    # The client writes pieces of 10 MB, and only what is written can be gone on from.
    (folder / LARGE_FILE).write_bytes(bytes(24_000_000))
    return root


@pytest.fixture
def hub(repositories: Path) -> Iterator[Hub]:
    with Hub(repositories) as running:
        yield running


def pull(
    model: str, endpoint: str, *options: str, cache: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`models pull` in a process of its own: the client reads its settings once.

    It has no PyTorch, which fetching and converting do without: importing it takes longer than
    all the rest. `cache` is the Hugging Face cache; the user's own is never looked at.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_ENDPOINT": endpoint} if endpoint else {"HF_HUB_OFFLINE": "1"}
    environment |= {"HF_HOME": str(cache or Path(os.environ["EDGE_ROUTER_HOME"]) / "hf")}
    command = ["models", "pull", model, "--tiers", "q8_0", "--no-verify", *options]
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_PYTORCH, *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_pull_fetches_converts_and_clears_up(hub: Hub, home: Path) -> None:
    done = pull("Org/Tiny-Model", hub.url)
    assert done.returncode == 0, done.stderr
    assert not any("pytorch_model.bin" in line for line in hub.asked)
    assert find_ladder("tiny-model").tiers[0].path.is_file()
    assert list((home / "cache" / "checkpoints").iterdir()) == []
    assert "tiny-model" in run("list").stdout
    hub.asked.clear()
    again = pull("Org/Tiny-Model", hub.url)
    assert "tiny-model is here already" in again.stdout
    assert hub.asked == []
    assert run("rm", "tiny-model", "--yes").exit_code == 0
    assert not (home / "cache" / "models" / "tiny-model").exists()


def test_a_download_that_broke_goes_on_where_it_was(hub: Hub, home: Path) -> None:
    hub.cut_after = 12_000_000
    done = pull("Org/Tiny-Model", hub.url, "--keep-checkpoint")
    assert done.returncode == 0, done.stderr
    assert any(f"{LARGE_FILE} bytes=1" in line for line in hub.asked), hub.asked
    kept = home / "cache" / "checkpoints" / "Org--Tiny-Model" / LARGE_FILE
    assert kept.read_bytes() == bytes(24_000_000)


def test_what_the_hub_refuses_is_told_in_one_sentence(hub: Hub) -> None:
    absent = pull("Org/Absent", hub.url)
    assert absent.returncode == 2
    assert "there is no model Org/Absent on Hugging Face" in absent.stderr.splitlines()[-1]
    hub.gated = True
    gated = pull("Org/Tiny-Model", hub.url)
    assert gated.returncode == 2
    assert "asks for consent" in gated.stderr.splitlines()[-1]
    assert "HF_TOKEN" in gated.stderr.splitlines()[-1]
    assert "Traceback" not in absent.stderr + gated.stderr


def test_offline_is_told_in_one_sentence() -> None:
    for endpoint, why in (
        ("http://127.0.0.1:9", "Hugging Face cannot be reached"),
        ("", "HF_HUB_OFFLINE is set"),
    ):
        done = pull("qwen3-0.6b", endpoint)
        assert done.returncode == 2
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("edge-router: Qwen/Qwen3-0.6B cannot be downloaded: ")
        assert why in last
        assert "Traceback" not in done.stderr


def test_pull_wants_an_id_or_a_name_of_the_catalogue() -> None:
    said = refused("pull", "qwen")
    assert "neither a Hugging Face id" in said
    assert "qwen3-0.6b" in said


@pytest.fixture
def cache(repositories: Path, tmp_path: Path) -> Path:
    """A Hugging Face cache that holds the repository as the hub has it."""
    folder = tmp_path / "hf" / "hub" / "models--Org--Tiny-Model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    shutil.copytree(repositories / "Org" / "Tiny-Model", folder / "snapshots" / COMMIT)
    return tmp_path / "hf"


@pytest.mark.parametrize(
    "endpoint",
    [*(pytest.param(e, marks=pytest.mark.slow) for e in ("", "http://127.0.0.1:9")), "hub"],
)
def test_what_the_hugging_face_cache_holds_is_not_downloaded(
    hub: Hub, home: Path, cache: Path, endpoint: str
) -> None:
    done = pull("Org/Tiny-Model", hub.url if endpoint == "hub" else endpoint, cache=cache)
    assert done.returncode == 0, done.stderr
    assert find_ladder("tiny-model").tiers[0].path.is_file()
    assert not any("resolve" in line for line in hub.asked)
    snapshot = cache / "hub" / "models--Org--Tiny-Model" / "snapshots" / COMMIT
    assert (snapshot / "config.json").is_file()  # it is not ours to clear up


@pytest.mark.slow  # a whole cache, and a download that broke, are fast
def test_a_cache_that_lacks_a_file_is_completed_or_said_to_be_no_help(
    hub: Hub, cache: Path
) -> None:
    snapshot = cache / "hub" / "models--Org--Tiny-Model" / "snapshots" / COMMIT
    (snapshot / "model.safetensors").unlink()
    offline = pull("Org/Tiny-Model", "", cache=cache)
    assert offline.returncode == 2
    assert "HF_HUB_OFFLINE is set" in offline.stderr.splitlines()[-1]
    assert pull("Org/Tiny-Model", hub.url, cache=cache).returncode == 0


def test_a_snapshot_folder_gives_its_ladder_the_models_name(cache: Path, home: Path) -> None:
    snapshot = cache / "hub" / "models--Org--Tiny-Model" / "snapshots" / COMMIT
    done = CliRunner().invoke(
        main, ["convert", str(snapshot), "--tiers", "q8_0", "--no-verify", "--threads", "1"]
    )
    assert done.exit_code == 0, done.output
    folder = find_ladder("tiny-model").folder
    assert 'from = "Org/Tiny-Model"' in (folder / "ladder.toml").read_text()
    metadata = read_header(find_ladder("tiny-model").tiers[0].path).metadata
    assert metadata["general.name"] == "Tiny-Model"


# -- names ------------------------------------------------------------------------------------


def convert_refused(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["convert", *map(str, arguments), "--tiers", "q8_0"])
    assert result.exit_code == 2, result.output
    return result.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["../x", "org/my-model", "run-" + "0" * 240, "-", "a\nb", ".."])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_name_that_is_none_is_refused_and_nothing_is_written(
    repositories: Path, tmp_path: Path, home: Path, name: str, elsewhere: bool
) -> None:
    out = ["--out", tmp_path / "o" / "p"] if elsewhere else []
    said = convert_refused(repositories / "Org" / "Tiny-Model", "--name", name, *out)
    assert said.startswith("edge-router: the name ")
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_an_embedded_model_is_kept_for_it(repositories: Path, tmp_path: Path) -> None:
    source = tmp_path / "household"
    shutil.copytree(repositories / "Org" / "Tiny-Model", source)
    assert "household is the name of a model that comes with" in convert_refused(source)
    assert "give another one with --name" in convert_refused(source, "--name", "HouseHold")
    done = CliRunner().invoke(
        main,
        ["convert", str(source), "--tiers", "q8_0", "--no-verify", "--out", str(tmp_path / "o")],
    )
    assert done.exit_code == 0, done.output  # in a folder of its own it hides nothing


def test_the_advice_at_the_end_plays_the_ladder_that_was_made(
    repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = repositories / "Org" / "Tiny-Model"
    done = CliRunner().invoke(
        main,
        ["convert", str(source), "--tiers", "q8_0", "--no-verify", "--out", "household"],
    )
    assert done.exit_code == 0, done.output
    advice = done.stdout.strip().splitlines()[-1].rpartition(" ")[2]
    assert find_ladder(advice).folder.resolve() == tmp_path / "household"


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "x" * 300, "a\nb"])
def test_no_command_takes_such_a_name_for_a_model(home: Path, name: str) -> None:
    (home / "cache" / "models").mkdir(parents=True)
    assert ("the model's name" if name else "it is empty") in refused("rm", name, "--yes")
    assert (home / "cache" / "models").is_dir()
    assert [run(c, name).exit_code for c in ("path", "show", "pull")] == [2, 2, 2]
    assert CliRunner().invoke(main, ["convert", name]).exit_code == 2


def test_a_broken_ladder_does_not_hide_the_others(home: Path) -> None:
    folder = home / "cache" / "models" / "broken"
    folder.mkdir(parents=True)
    (folder / "ladder.toml").write_text("[ladder")
    shown = run("list")
    assert shown.exit_code == 0
    assert "household" in shown.stdout
    assert "does not describe a ladder" in shown.stdout
    (line,) = (json.loads(x) for x in run("list", "--json").stdout.splitlines() if "broken" in x)
    assert line["name"] == "broken"


# -- removing ---------------------------------------------------------------------------------


def test_rm_asks_first_and_removes_only_what_is_its_own(home: Path) -> None:
    folder = home / "cache" / "models" / "mine"
    shutil.copytree(find_ladder("household").folder, folder)
    asked = CliRunner().invoke(main, ["models", "rm", "mine"], input="n\n")
    assert asked.exit_code == 130
    assert folder.is_dir()
    assert run("rm", "mine", "--yes").exit_code == 0
    assert not folder.exists()
    assert "comes with edge-router and cannot be removed" in refused("rm", "household", "--yes")
    assert "there is no model 'mine'" in refused("rm", "mine", "--yes")
    assert "the model's name '../mine' will not do" in refused("rm", "../mine", "--yes")


# -- openings ---------------------------------------------------------------------------------


def test_openings_are_counted_listed_and_removed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_ROUTER_OPENINGS_GB", "1.5")
    folder = home / "cache" / "openings"
    assert (
        f"0 prompt openings kept, 0.0 MB of at most 1.5 GB, in {folder}" in run("openings").output
    )
    folder.mkdir(parents=True)
    (folder / f"{'0' * 64}.kv").write_bytes(bytes(3_000_000))
    (folder / "note.txt").write_text("not ours")
    assert "1 prompt opening kept, 3.0 MB" in run("openings").stdout
    assert "1 prompt opening kept, 3.0 MB" in " ".join(run("list").stdout.split())
    kept = json.loads(run("openings", "--json").stdout)
    assert (kept["files"], kept["size_bytes"], kept["cleared"]) == (1, 3_000_000, False)
    assert "removed 1 prompt opening" in run("openings", "--clear").stdout
    assert [file.name for file in folder.iterdir()] == ["note.txt"]
    assert "opening" not in run("list").stdout


def test_a_store_that_is_switched_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ROUTER_OPENINGS_GB", "0")
    assert "EDGE_ROUTER_OPENINGS_GB is 0" in run("openings").stdout
    monkeypatch.setenv("EDGE_ROUTER_OPENINGS_GB", "lots")
    assert "set it to the gigabytes" in refused("openings")


def test_the_doctor_tells_of_openings(monkeypatch: pytest.MonkeyPatch) -> None:
    def finding() -> dict[str, str]:
        found = CliRunner().invoke(main, ["doctor", "--json"])
        (one,) = (f for f in json.loads(found.stdout) if f["what"] == "openings")
        return dict(one)

    monkeypatch.setenv("EDGE_ROUTER_OPENINGS_GB", "2")
    assert "0 prompt openings kept" in finding()["found"]
    monkeypatch.setenv("EDGE_ROUTER_OPENINGS_GB", "lots")
    assert "set it to the gigabytes" in finding()["advice"]
