"""The table of policies says of each what it won, cost and gained, on screen and in Markdown."""

from __future__ import annotations

from train.router.show import default_row, sheet
from train.router.table import PolicyResult

ROWS = [
    PolicyResult(
        "always low", "low", None, [True, False, False, True], [10] * 4, [0] * 4, [0.0] * 4, 400
    ),
    PolicyResult(
        "always high", "high", None, [True, True, True, False], [5] * 4, [5] * 4, [5.0] * 4, 200
    ),
    PolicyResult(
        *("SFT + GRPO, dial 0.5", "onnx:router.onnx", 0.5, [True, True, True, True]),
        *([5, 5, 5, 10], [1, 1, 1, 2], [1.0, 1.0, 1.0, 2.0], 300),
        seconds={"laptop": 1.234},
    ),
]


def test_a_row_tells_what_was_won_with_what_and_against_whom() -> None:
    lines = sheet(ROWS, "4 games", ["laptop"]).markdown().splitlines()
    assert lines[0] == "**4 games**"
    assert lines[2].endswith("| against high | router against it | s/game laptop |")
    assert lines[4].startswith("| always low | 50.0 % | 15.0-85.0 | 0.0 % | 10.0 | 100 |")
    assert lines[4].endswith("| +1 -2 p 1 | +2 -0 p 0.5 |  |")
    assert lines[5].endswith("|  | +1 -0 p 1 |  |")
    ours = (
        "| SFT + GRPO, dial 0.5 | 100.0 % | 51.0-100.0 | 20.0 % | 6.2 | 75 | +1 -0 p 1 |  | 1.23 |"
    )
    assert lines[6] == ours
    assert default_row(ROWS) is ROWS[2]


def test_a_screen_of_80_columns_shows_the_same_figures() -> None:
    shown = sheet(ROWS, "4 games", ["laptop"]).text(80)
    assert all(text in shown for text in ("4 games", "always high", "51.0-100.0", "+1 -2 p 1"))
    assert max(map(len, shown.splitlines())) <= 80
