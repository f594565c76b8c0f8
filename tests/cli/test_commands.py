"""The commands as users run them: what goes to stdout, to stderr and into the exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_router import __version__
from edge_router.agent.trace import read_trace
from edge_router.cli.main import main
from tests.tiny_gguf import TINY_QWEN3, write_tiny_ladder

ROOT = Path(__file__).resolve().parents[2]
SHORT = replace(TINY_QWEN3, name="tiny-household", prompt_style="household")
LOW, HIGH = "q3_k_m", "q8_0"


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that play quickly on a tiny ladder."""
    paths = write_tiny_ladder(tmp_path_factory.mktemp("cli"), SHORT, (LOW, HIGH))
    tiers = [f"--tier={name}={path}" for name, path in paths.items()]
    return [*tiers, "--threads=1", "--split=generated"]


def run(*arguments: str | Path, stdin: str = "") -> Result:
    """Run `edge-router ARGUMENTS` in this process."""
    return CliRunner().invoke(main, [str(a) for a in arguments], input=stdin)


def command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("edge-router")), *arguments]


def in_a_process(arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_piped_episode_is_plain_text_and_replays_to_the_same_bytes(
    ladder: list[str], tmp_path: Path
) -> None:
    path = str(tmp_path / "episode.jsonl")
    played = in_a_process(
        ["play", *ladder, "--max-steps=3", "--router=random:0.5", "--trace", path]
    )
    assert (played.returncode, played.stderr) == (0, "")
    assert "\x1b" not in played.stdout
    assert "\n[3] q" in played.stdout
    assert "\nnot won in 3 steps, 3 refused\n" in played.stdout
    again = in_a_process(["replay", path])
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == played.stdout


def test_json_is_all_that_stdout_gets_and_a_replay_repeats_it(
    ladder: list[str], tmp_path: Path
) -> None:
    path = str(tmp_path / "episode.jsonl")
    played = in_a_process(["play", *ladder, "--json", "--max-steps=2", "--trace", path])
    assert played.returncode == 0
    steps = [json.loads(line) for line in played.stdout.splitlines()]
    assert [s["step"] for s in steps] == [0, 1]
    assert "not won in 2 steps" in played.stderr
    again = in_a_process(["replay", path, "--json"])
    assert (again.stdout, again.stderr) == (played.stdout, played.stderr)


def test_a_trace_names_files_by_their_fingerprint(ladder: list[str], tmp_path: Path) -> None:
    path = tmp_path / "episode.jsonl"
    assert run("play", *ladder, "--max-steps=1", "--trace", path).exit_code == 0
    tiers = read_trace(path).started.tiers
    assert [t.name for t in tiers] == [LOW, HIGH]
    assert all(len(t.fingerprint) == 64 for t in tiers)


def test_options_reach_the_episode(ladder: list[str], tmp_path: Path) -> None:
    path = tmp_path / "episode.jsonl"
    options = (
        "--max-steps=2 --seed=5 --temperature=0.7 --kv=handoff:8 --constrain --router=high"
        " --game=random --dial=0.9"
    )
    result = run("play", *ladder, "--trace", path, *options.split())
    assert result.exit_code == 0, result.output
    trace = read_trace(path)
    episode = trace.started
    assert (episode.seed, episode.temperature, episode.kv, episode.constrained, episode.router) == (
        *(5, 0.7, "handoff:8"),
        *(True, "high"),
    )
    assert trace.steps[0].routed.features["dial"] == pytest.approx(0.9)
    assert trace.steps[0].finished.tier == HIGH
    assert trace.steps[1].finished.latency.catchup_tokens == 8


def test_ctrl_c_ends_the_episode_with_a_whole_trace(ladder: list[str], tmp_path: Path) -> None:
    path = tmp_path / "episode.jsonl"
    arguments = ["play", *ladder, "--max-steps=1000", "--ctx=2048", "--trace", str(path)]
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        give_up = time.monotonic() + 120
        while not (path.exists() and path.read_text().count("\n") >= 3):
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    trace = read_trace(path)
    assert trace.note == ""
    assert trace.finished is not None
    assert trace.finished.reason == "interrupted"
    assert trace.finished.steps == len(trace.steps) >= 2
    assert f"\ninterrupted after {len(trace.steps)} steps" in out


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    program = command("games", "list", "--split", "generated")
    reader, writer = os.pipe()
    os.close(reader)  # gone before the first line, so that none can slip through
    done = subprocess.run(program, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 1


def test_a_cut_trace_is_replayed_with_a_note(ladder: list[str], tmp_path: Path) -> None:
    path = tmp_path / "episode.jsonl"
    run("play", *ladder, "--max-steps=3", "--trace", path)
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:50])
    result = run("replay", path)
    assert result.exit_code == 0
    assert "\n[2] " in result.stdout
    assert "\n[3] " not in result.stdout
    assert result.stderr == "the trace breaks off after 2 steps: line 4 is damaged\n"


def test_replay_step_by_step_asks_on_stderr(ladder: list[str], tmp_path: Path) -> None:
    path = tmp_path / "episode.jsonl"
    live = run("play", *ladder, "--max-steps=2", "--trace", path)
    result = run("replay", path, "--step", stdin="\n\n")
    assert result.stdout == live.stdout
    assert result.stderr.count("Enter") == 2


def test_replay_needs_no_model_library(ladder: list[str], tmp_path: Path) -> None:
    path = tmp_path / "episode.jsonl"
    run("play", *ladder, "--max-steps=1", "--trace", path)
    code = (
        "import sys\nfrom edge_router.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(sorted(m.split('.')[0] for m in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "replay", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "[1]" in done.stdout
    for heavy in ("llama_cpp", "onnxruntime", "textworld", "rich", "jinja2", "numpy"):
        assert f"'{heavy}'" not in done.stderr


@pytest.mark.parametrize("arguments", [[], ["play"], ["replay"], ["games"], ["games", "list"]])
def test_help_loads_nothing_that_takes_time(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom edge_router.cli.main import main\n"
        "try: main([*sys.argv[1:], '--help'])\n"
        "except SystemExit: pass\n"
        "print(*{m.split('.')[0] for m in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"llama_cpp", "onnxruntime", "textworld", "alfworld", "rich", "numpy", "jinja2"}
    assert "Usage:" in done.stdout
    assert not heavy & set(done.stderr.split())


def test_the_version_is_the_packages() -> None:
    assert run("--version").stdout.startswith(f"edge-router {__version__}, ")


def test_games_are_listed_so_that_each_can_be_played() -> None:
    lines = run("games", "list", "--split", "generated").stdout.splitlines()
    assert len(lines) >= 60
    index, kind, game = lines[7].split()
    assert index == "7"
    assert game.startswith(kind)
    objects = run("games", "list", "--split", "generated", "--json").stdout.splitlines()
    assert json.loads(objects[7]) == {"index": 7, "id": game, "kind": kind}


def test_a_game_is_found_by_its_id(ladder: list[str], tmp_path: Path) -> None:
    path = tmp_path / "episode.jsonl"
    game = run("games", "list", "--split", "generated").stdout.splitlines()[7].split()[2]
    run("play", *ladder, "--game", game, "--max-steps=1", "--trace", path)
    assert read_trace(path).started.game == game


def test_games_are_generated_and_can_be_played(ladder: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    made = run("games", "generate", "--count", "1", "--seed", "3", "--out", folder)
    assert made.exit_code == 0, made.output
    options = [o for o in ladder if not o.startswith("--split")]
    result = run("play", *options, "--games", folder, "--max-steps=1")
    assert result.exit_code == 0, result.output
    assert "trial_S3_0000" in result.stdout


def test_a_folder_with_a_ladder_file_is_a_model(ladder: list[str], tmp_path: Path) -> None:
    files = [option.removeprefix("--tier=").split("=") for option in ladder[:2]]
    for name, path in files:
        (tmp_path / f"{name}.gguf").symlink_to(path)  # a ladder's files lie in its own folder
    tiers = "".join(f'[[tier]]\nname = "{n}"\nfile = "{n}.gguf"\n' for n, _ in files)
    (tmp_path / "ladder.toml").write_text(f'[ladder]\nname = "mine"\nprompt = "household"\n{tiers}')
    result = run("play", *ladder[2:], "--model", tmp_path, "--max-steps=1", "--router=tier:q8_0")
    assert result.exit_code == 0, result.output
    assert "\n[1] q8_0  " in result.stdout
