"""`edge-router train router` as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_router.cli.main import main
from train.router.options import RunOptions

STAGES = ("collect", "sft", "grpo", "export")


@pytest.mark.slow
def test_the_router_has_the_same_bytes_however_many_processes_explore(tmp_path: Path) -> None:
    made = []
    for jobs in (1, 2):
        run = tmp_path / str(jobs)
        command = ["train", "router", f"--run={run}", f"--jobs={jobs}", "--iterations=4"]
        command += ["--train-games=24", "--select-games=8", "--test-games=1"]
        command += [f"--stage={stage}" for stage in STAGES]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        made.append((run / "router.onnx").read_bytes())
    assert made[0] == made[1]


def test_help_tells_the_defaults_that_a_run_has() -> None:
    told = " ".join(CliRunner().invoke(main, ["train", "router", "--help"]).output.split())
    default = RunOptions()
    assert f"Games to learn from. [{default.train_games}]" in told
    assert f"networks and thresholds are chosen. [{default.select_games}]" in told
    assert f"played when all is chosen. [{default.test_games}]" in told
    assert f"Of GRPO. [{default.grpo.iterations}]" in told
    assert f"Processes. [{default.backend.jobs};" in told


def test_a_ladder_of_one_tier_has_nothing_to_route(tmp_path: Path) -> None:
    low = Path("models/household/household-iq1_s.gguf").absolute()
    command = ["train", "router", f"--tier=low={low}", f"--run={tmp_path / 'run'}"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "a ladder of one tier has nothing to route" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_scheduler_that_is_not_there_is_told_before_anything_is_explored(
    tmp_path: Path,
) -> None:
    pytest.importorskip("distributed")
    command = ["train", "router", "--dask=nowhere", f"--run={tmp_path / 'run'}"]
    command += ["--train-games=2", "--select-games=1", "--test-games=1"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "no dask scheduler at nowhere" in result.stderr


@pytest.mark.parametrize("where", ["file", "file/in"])
@pytest.mark.parametrize("task", ["alfworld", "prompts"])
def test_a_run_in_no_folder_is_refused_in_a_sentence(tmp_path: Path, where: str, task: str) -> None:
    (tmp_path / "file").write_text("")
    command = ["train", "router", f"--task={task}", f"--run={tmp_path / where}"]
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{tmp_path / 'file'} is a file" in result.stderr
