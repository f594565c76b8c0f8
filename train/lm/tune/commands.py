"""`edge-router train lm`: from a chat checkpoint to a ladder that plays.

    1  the base: fetched, opened, or dequantised from a GGUF
    2  imitation of the scripted expert, its mistakes and recoveries among it
    3  rounds of DAgger, where they are asked for: the model plays, the expert corrects
    4  iterations of GRPO, where they are asked for: the model plays, and learns what pays
    5  the adapter and the merged checkpoint
    6  the tiers, verified against F16
    7  every tier plays alone: is there anything to route?

The same command goes on where it was interrupted.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_router.cli.convert import report
from edge_router.convert.build import Made, parse_tiers
from edge_router.convert.checkpoint import Checkpoint
from edge_router.convert.dequantise import to_checkpoint
from edge_router.convert.download import fetch, is_repo, refuse_url
from edge_router.convert.gguf_source import slug
from edge_router.convert.vocabulary import load_tokenizer
from edge_router.engine.gguf_file import FLOAT_TYPES, is_gguf, read_header
from edge_router.errors import UserError
from edge_router.files.paths import is_folder, why_no_file
from edge_router.files.whole import make_folder
from edge_router.screen.printable import say
from edge_router.tasks.household.generator import draw_world
from edge_router.training import ADAPTER_RATE, FULL_RATE
from edge_router.work.progress import ShownProgress
from train.lm.plot import plot, read_log
from train.lm.tune.dialogues import Dialogue
from train.lm.tune.finish import ADAPTER, MERGED, make_ladder, save_adapter, save_merged
from train.lm.tune.grpo import GrpoTuner, SimulatorGrpo
from train.lm.tune.measure import measured, table, verdict, write
from train.lm.tune.model import chosen_device
from train.lm.tune.players import AT_ONCE, play
from train.lm.tune.trainer import TuneConfig, Tuner

GRPO_SHARE = 0.1  # of the learning rate, for GRPO


def run(
    *,
    base: str,
    task: str,
    out: Path,
    tiers: str,
    dagger: int,
    dagger_games: int,
    grpo: int,
    grpo_config: SimulatorGrpo,
    measure_games: int,
    workers: int,
    device: str | None,
    config: TuneConfig,
) -> int:
    """Run the stages in their order and return the exit code."""
    if task != "alfworld":
        raise UserError(f"there are no expert episodes for {task}; they are drawn for alfworld")
    wanted, where = parse_tiers(tiers), chosen_device(device)
    make_folder(out)
    progress = ShownProgress()
    try:
        folder = base_folder(base, out, progress.note)
        tokenizer = load_tokenizer(folder)
        require_chat(folder, tokenizer)
        how: dict[str, Any] = {"workers": workers, "progress": progress}
        tuner = Tuner(out, config, folder, tokenizer, where, **how)
        tuner = _taught(tuner, folder, dagger, dagger_games, how)
        if grpo:
            _improve(tuner, grpo, grpo_config)
        if config.lora:
            save_adapter(tuner.model, out / ADAPTER, base)
        save_merged(tuner.model, tokenizer, folder, out)
    except KeyboardInterrupt:
        progress.note(f"interrupted; the same command goes on from {out}")
        return 130
    finally:
        progress.close()
    _finish(out, slug(str(out.resolve())), wanted, measure_games)
    return 0


def _taught(tuner: Tuner, folder: Path, rounds: int, games: int, how: dict[str, Any]) -> Tuner:
    """Train to the end, and on with corrected episodes; the last trainer."""
    _train(tuner)
    for number in range(1, rounds + 1):
        run = tuner.run.parent if number > 1 else tuner.run
        corrected = corrections(tuner, games, seed=number)
        config = replace(
            tuner.config,
            episodes=max(1, len(corrected) * 2),
            learning_rate=tuner.config.learning_rate / 3,
        )
        following = Tuner(
            run / f"dagger-{number}", config, folder, tuner.tokenizer, tuner.device,
            corrected=corrected, **how,
        )  # fmt: skip
        following.run.mkdir(exist_ok=True)
        following.start_from(tuner.run)
        _train(following)
        tuner = following
    return tuner


def _train(tuner: Tuner) -> None:
    if tuner.resume():
        say(f"going on from step {tuner.step} in {tuner.run}", err=True)
    tuner.train()
    _plot(tuner)


def _improve(tuner: Tuner, iterations: int, config: SimulatorGrpo) -> None:
    """GRPO from where the tuned model is, or from where GRPO was interrupted."""
    grpo = GrpoTuner(tuner, config)
    if grpo.resume(iterations):
        say(f"going on from iteration {grpo.iteration} of GRPO in {tuner.run}", err=True)
    grpo.train(iterations, tuner.config.evaluations)
    _plot(tuner)


def _plot(tuner: Tuner) -> None:
    if (tuner.run / "log.jsonl").is_file():
        plot(read_log(tuner.run), tuner.run / "learning.png")


def corrections(tuner: Tuner, games: int, seed: int) -> list[Dialogue]:
    """Episodes in which the model was wrong at least once, with the expert's corrections."""
    kept: list[Dialogue] = []
    show = tuner.progress("games for the expert to correct", total=games)
    for first in range(0, games, AT_ONCE):
        rng = random.Random(f"tune corrections {seed} {first}")
        worlds = [draw_world(rng) for _ in range(min(AT_ONCE, games - first))]
        for game in play(tuner.model, tuner.tokens, worlds, correct=0.5):
            if game.agreed < game.steps:
                kept.append(game.dialogue)
            show()
    return kept


def _finish(out: Path, name: str, tiers: tuple[str, ...], games: int) -> None:
    """The ladder, what its tiers can do, and the one sentence that says whether to route."""
    with ShownProgress() as bars:
        made: Made = make_ladder(out / MERGED, out / "ladder", name, tiers, bars)
    report(made, str(out / "ladder"))
    if not games:
        return
    progress = ShownProgress()
    try:
        results = measured(made, games, progress)
    finally:
        progress.close()
    write(results, out / "tiers.json")
    say(f"\n{table(results)}\n{verdict(results)}")


def start(
    *,
    lora: int,
    learning_rate: float | None,
    episodes: int,
    rows: int,
    at_once: int,
    length: int,
    evaluate_games: int,
    seed: int,
    grpo_group_size: int,
    grpo_games: int,
    grpo_temperature: float,
    grpo_clip_range: float,
    grpo_kl_coefficient: float,
    grpo_learning_rate: float | None,
    **options: Any,
) -> int:
    """`run` with the settings that the command line has apart."""
    config = TuneConfig(
        episodes=episodes,
        lora=lora,
        learning_rate=learning_rate or (ADAPTER_RATE if lora else FULL_RATE),
        length=length,
        rows=rows,
        at_once=at_once,
        evaluate_games=evaluate_games,
        seed=seed,
    )
    improved = SimulatorGrpo(
        group_size=grpo_group_size,
        games=grpo_games,
        temperature=grpo_temperature,
        clip_range=grpo_clip_range,
        kl_coefficient=grpo_kl_coefficient,
        learning_rate=grpo_learning_rate or config.learning_rate * GRPO_SHARE,
        seed=seed,
    )
    return run(config=config, grpo_config=improved, **options)


def base_folder(base: str, run: Path, note: Callable[[str], None]) -> Path:
    """The folder of a checkpoint that can be trained. Raises `UserError`.

    A GGUF is written as a checkpoint into the run's folder; `note` hears what that means.
    """
    refuse_url(base)
    path = Path(base)
    if is_gguf(path) or path.suffix.lower() == ".gguf":
        return _from_gguf(path, run / "base", note)
    if not is_folder(path) and why_no_file(path) and is_repo(base):
        path = fetch(base).folder
    Checkpoint.open(path)
    return path


def _from_gguf(file: Path, folder: Path, note: Callable[[str], None]) -> Path:
    quantised = sorted(read_header(file).type_names - FLOAT_TYPES)
    if quantised:
        note(
            f"{file} is quantised ({', '.join(quantised)}): the values of its blocks are trained "
            "from, and what quantising lost is not there to learn from"
        )
    if not (folder / "config.json").is_file():  # it is written last
        to_checkpoint(file, folder)
    return folder


def require_chat(folder: Path, tokenizer: object) -> None:
    """Refuse a model that was never taught to chat. Raises `UserError`."""
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"{folder} has no chat template; take the model's -Instruct or -Chat checkpoint"
        )
