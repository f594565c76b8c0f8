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

from edge_router.screen.printable import say


def read_log(run: Path) -> list[dict[str, float]]:
    """The lines of log.jsonl; of a step logged twice (a resumed run) the last counts."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    latest = {(line["step"], "won" in line): line for line in lines}
    return [latest[key] for key in sorted(latest)]


def plot(lines: list[dict[str, float]], out: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    losses = [line for line in lines if "loss" in line]
    left.semilogy([x["step"] for x in losses], [x["loss"] for x in losses])
    left.set(xlabel="step", ylabel="loss", title="weighted cross-entropy")
    games = [line for line in lines if "won" in line]
    for name, label in (("won", "games won"), ("agreed", "actions as the expert's"),
                        ("refused", "actions refused")):  # fmt: skip
        right.plot([x["step"] for x in games], [x[name] for x in games], marker=".", label=label)
    right.set(xlabel="step", xlim=left.get_xlim(), ylim=(0, 1), title="held-out generated games")
    right.legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
    say(f"wrote {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/lm"))
    parser.add_argument("--out", type=Path, default=Path("runs/lm/learning.png"))
    args = parser.parse_args()
    plot(read_log(args.run), args.out)


if __name__ == "__main__":
    main()
