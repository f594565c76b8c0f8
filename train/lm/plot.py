"""Learning curves of a run as a PNG.

python -m train.lm.plot --run runs/lm --out models/household/learning.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from edge_router.screen.printable import say


def read_log(run: Path) -> list[dict[str, float]]:
    """The lines of log.jsonl; of a step logged twice (a resumed run) the last counts."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    latest = {_place(line): line for line in lines}
    return [latest[key] for key in sorted(latest)]


def _place(line: dict[str, float]) -> tuple[bool, float, bool]:
    """Iterations of GRPO lie behind the steps of imitation, at each what was played last."""
    by_reward = "iteration" in line
    return by_reward, line["iteration" if by_reward else "step"], "won" in line


def plot(lines: list[dict[str, float]], out: Path) -> None:
    """Imitation in two panels, below it GRPO where there is some."""
    by_reward = [line for line in lines if "iteration" in line]
    rows = 2 if by_reward else 1
    figure, panels = plt.subplots(
        rows, 2, figsize=(9, 3.2 * rows), layout="constrained", squeeze=False
    )
    _imitation(panels[0][0], panels[0][1], [line for line in lines if "iteration" not in line])
    if by_reward:
        _grpo(panels[1][0], panels[1][1], by_reward)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
    plt.close(figure)
    say(f"wrote {out}")


def _imitation(left: Axes, right: Axes, lines: list[dict[str, float]]) -> None:
    _curves(left, lines, "step", {"loss": ""})
    left.set(xlabel="step", ylabel="loss", yscale="log", title="weighted cross-entropy")
    names = {
        "won": "games won", "agreed": "actions as the expert's", "refused": "actions refused",
    }  # fmt: skip
    _curves(right, [line for line in lines if "won" in line], "step", names)
    right.set(xlabel="step", xlim=left.get_xlim(), ylim=(0, 1), title="held-out generated games")
    right.legend()


def _grpo(left: Axes, right: Axes, lines: list[dict[str, float]]) -> None:
    names = {
        "return": "return", "success": "games won", "skipped": "groups skipped",
        "won": "held-out games won, greedily",
    }  # fmt: skip
    _curves(left, lines, "iteration", names)
    left.set(xlabel="iteration", title="GRPO: games played by chance")
    left.legend()
    _curves(right, lines, "iteration", {"kl": ""})
    right.set(xlabel="iteration", ylabel="nats a token", title="KL from the tuned model")


def _curves(axes: Axes, lines: list[dict[str, float]], x: str, names: dict[str, str]) -> None:
    """A curve of each value, through the lines that hold it."""
    for name, label in names.items():
        found = [line for line in lines if name in line]
        style = "" if name == "loss" else "."
        axes.plot([v[x] for v in found], [v[name] for v in found], marker=style, label=label)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/lm"))
    parser.add_argument("--out", type=Path, default=Path("runs/lm/learning.png"))
    args = parser.parse_args()
    plot(read_log(args.run), args.out)


if __name__ == "__main__":
    main()
