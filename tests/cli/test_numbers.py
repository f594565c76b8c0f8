"""Numbers of the command line: finite, and of a size that means something."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from edge_router.cli.main import main
from tests.commands import parameters


@pytest.mark.parametrize(
    "arguments",
    [
        "play --temperature nan",
        "play --temperature inf",
        "play --top-p nan",
        "play --min-p -inf",
        "play --dial nan",
        "play --budget nan",
        "play --pace inf",
        "play --gpu-layers 99999999999",
        "play --ctx 99999999999",
        f"play --seed {10**400}",
        "play --max-steps 99999999999",
        "play --router entropy:inf",
        "play --router entropy:nan",
        "play --router margin:nan",
        "play --router random:nan",
        "play --router draft:inf",
        "replay --speed nan x.jsonl",
        "bench policies --temperature nan",
        "bench policies --retry-temperature inf",
        "bench policies --routers entropy:nan",
        "bench policies --seed 99999999999999999999999",
        "bench policies --games 99999999999",
        "bench policies --routers low@nan",
        "bench policies --dial nan",
        "bench speed --spans 0",
        "bench speed --spans -3",
        "bench speed --spans 99999999999999",
        "bench speed --shape tiny --spans 4000",
        "bench speed --shape tiny -p 4000",
        "bench speed --shape tiny -n 4000",
        "convert x --verify-tokens 99999999999999",
        "train lm --base x --grpo -1",
        "train lm --base x --grpo-group-size 1",
        "train lm --base x --grpo-temperature 0",
        "train lm --base x --grpo-clip-range 2",
        "train lm --base x --grpo-kl-coefficient nan",
        "games generate --count 99999999999 --out x",
        "games generate --count -1 --out x",
        "games generate --seed 99999999999999999999999 --out x",
    ],
)
def test_a_number_out_of_any_range_is_refused(arguments: str) -> None:
    result = CliRunner().invoke(main, arguments.split())
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("edge-router: ")
    assert result.stderr.count("\n") == 1
    assert len(result.stderr) < 300


def test_every_number_of_every_command_has_an_end() -> None:
    """Click's own types take nan, inf, and numbers that no C integer holds."""
    plain = (type(click.INT), type(click.FLOAT), click.IntRange, click.FloatRange)
    assert [p.name for p in parameters() if type(p.type) in plain] == []
