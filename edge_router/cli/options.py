"""Groups of options that commands share; each group reaches its command as one value.

@ladder_options()
def command(ladder: LadderChoice, **options: Any) -> None: ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from edge_router.cli.config import yields_to
from edge_router.cli.types import (
    CONTEXT,
    COUNT,
    FILE,
    GUESS,
    KV,
    LAYERS,
    MODEL,
    PACE,
    ROUTER,
    SHARE,
    TEXT,
    THREADS,
    WORD,
)
from edge_router.engine.tier_spec import AUTO, ModelRuntime
from edge_router.errors import UserError
from edge_router.router.registry import one_of_the_routers
from edge_router.router.rules import NEUTRAL

if TYPE_CHECKING:
    from edge_router.ladders.ladder_file import LadderFile
    from edge_router.ladders.resolve import PlannedLadder
    from edge_router.router.base import Router

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def group(name: str, kind: Callable[[], type[Any]], *options: Decorator) -> Decorator:
    """A decorator that adds `options` and hands their values over as the one argument `name`.

    `kind` returns the dataclass that carries them, whose fields have the options' names. It is
    called when a command runs, so that `--help` loads nothing for it.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def carrying(**given: Any) -> Any:
            carrier = kind()
            given[name] = carrier(**{f.name: given.pop(f.name) for f in fields(carrier)})
            return command(**given)

        decorated: Command = carrying
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


@dataclass(frozen=True)
class LadderChoice:
    """Which ladder: a model by name or folder, or NAME=PATH a tier; neither is the embedded one."""

    model: str | None
    tiers: tuple[str, ...]

    def resolved(self) -> LadderFile:
        """The tiers, as ladder.toml describes them. Raises `UserError`."""
        from edge_router.ladders.resolve import resolve

        return resolve(self.model, self.tiers)


@dataclass(frozen=True)
class SubjectChoice(LadderChoice):
    """Which ladder is measured; a shape has random weights."""

    shape: str | None
    precisions: str | None


@dataclass(frozen=True)
class GrownChoice:
    """To which model's cost the ladder is grown, if at all, and with which added layers."""

    shape: str | None
    types: str | None


def grown_ladder(ladder: LadderChoice, grown: GrownChoice) -> PlannedLadder:
    """The ladder, to be grown as asked for once all else is known to be right. `UserError`."""
    from edge_router.bench.grow import find_growth, grow
    from edge_router.ladders.resolve import PlannedLadder, resolve
    from edge_router.work.progress import ShownProgress

    if grown.shape is None:
        if grown.types is not None:
            raise UserError("--as-types belongs to --as SHAPE")
        return PlannedLadder(ladder.resolved())
    found = find_growth(ladder.resolved(), grown.shape, grown.types)

    def make() -> LadderFile:
        with ShownProgress() as progress:
            return resolve(str(grow(found, progress=progress)), ())

    return PlannedLadder(found.described, make)


def _ladder_options(*others: str) -> list[Decorator]:
    return [
        click.option(
            "--model",
            type=MODEL,
            callback=yields_to("tiers", *others),
            help="A model by name (see models list) or a folder with ladder.toml.  [household]",
        ),
        click.option(
            "--tier",
            "tiers",
            type=TEXT,
            callback=yields_to("model", *others),
            multiple=True,
            metavar="NAME=PATH",
            help="A tier's GGUF; once per tier, low to high, instead of --model.",
        ),
    ]


def ladder_options() -> Decorator:
    """--model and --tier, as `ladder`."""
    return group("ladder", lambda: LadderChoice, *_ladder_options())


def subject_options() -> Decorator:
    """--model, --tier, or --shape with --precisions, as `subject`; and -r."""
    own: list[Decorator] = [
        click.option(
            "--shape",
            type=WORD,
            callback=yields_to("model", "tiers"),
            metavar="NAME",
            help="Random weights of this model's shape, made once, instead of a model: "
            "qwen3-0.6b, qwen3-1.7b, qwen3-4b, llama-3.2-1b.",
        ),
        click.option(
            "--precisions",
            type=WORD,
            help="The shape's tiers, low to high, by commas.  [q4_k_m,q8_0]",
        ),
        click.option(
            "-r",
            "--repeats",
            type=COUNT,
            default=5,
            show_default=True,
            help="Repeats, after a warm-up.",
        ),
    ]
    *own, repeats = own
    decorate = group("subject", lambda: SubjectChoice, *_ladder_options("shape"), *own)
    return lambda command: decorate(repeats(command))


def _outputs() -> type[Any]:
    from edge_router.results.outputs import Outputs

    return Outputs


output_options = group(
    "outputs",
    _outputs,
    click.option("--json", type=FILE, help="Write the results to this file, for report."),
    click.option("--csv", type=FILE, help="Write the numbers to this CSV file."),
    click.option("--full", is_flag=True, help="Print all tables, not only the summary."),
    click.option("--markdown", is_flag=True, help="Print the tables as Markdown."),
    click.option("--plot", type=FILE, help="Draw the results into this .png or .svg file."),
)


@dataclass(frozen=True)
class Display:
    """How a run is shown: as JSON, as text, or in the app at some pace."""

    as_json: bool
    plain: bool
    pace: float | None


json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a step on stdout."
)
plain_option = click.option(
    "--plain", is_flag=True, help="Print the run instead of opening the app."
)
pace_option = click.option(
    "--pace",
    type=PACE,
    metavar="SECONDS",
    help="How long the app shows a step at least; 0 is full speed.  [1.5]",
)

display_options = group("display", lambda: Display, json_option, plain_option, pace_option)


@dataclass(frozen=True)
class Routing:
    """Who chooses the tiers, how much is escalated, and how KV is handed over."""

    router: str
    dial: float | None
    budget: float | None
    kv: str | None  # None: as the ladder suggests
    lookup: int

    def router_for(self, ladder: LadderFile) -> Router:
        """The router as asked for, held to the budget where there is one. Raises `UserError`."""
        from edge_router.ladders.resolve import router_for

        if self.dial is not None and self.budget is not None:
            raise UserError("--dial and --budget exclude each other; give one of them")
        return router_for(ladder, self.router, self.budget)

    @property
    def setting(self) -> float:
        """The dial as asked for."""
        return NEUTRAL if self.dial is None else self.dial


routing_options = group(
    "routing",
    lambda: Routing,
    click.option(
        "--router",
        type=ROUTER,
        default="auto",
        show_default=True,
        help=f"{one_of_the_routers()}; auto is what the model's ladder.toml suggests.",
    ),
    click.option(
        "--dial",
        type=SHARE,
        callback=yields_to("budget"),
        show_default="0.5",
        help="Cost (0) or quality (1); 0.5 leaves thresholds as given.",
    ),
    click.option(
        "--budget",
        type=SHARE,
        callback=yields_to("dial"),
        metavar="SHARE",
        help="Escalate about this share of the steps (0.15), instead of --dial.",
    ),
    click.option(
        "--kv",
        type=KV,
        help="How a higher tier gets its KV cache: handoff, handoff:N or exact.  [what ladder.toml "
        "suggests, else handoff]",
    ),
    click.option(
        "--lookup",
        type=GUESS,
        default=0,
        metavar="N",
        help="Guess up to N tokens from the text itself and read them in one batch: the same text "
        "in fewer batches where it repeats itself.  [0, none]",
    ),
)


machine_options = group(
    "machine",
    lambda: ModelRuntime,
    click.option("--threads", type=THREADS, help="CPU threads.  [follows the machine]"),
    click.option(
        "--gpu-layers",
        type=LAYERS,
        default=AUTO,
        show_default=True,
        help="Layers on Metal or CUDA, if llama.cpp was built for it: a number, -1 for all, or "
        "auto for as many as fit.",
    ),
    click.option("--ctx", type=CONTEXT, help="Context in tokens.  [up to 4096]"),
    click.option(
        "--no-opening-store",
        is_flag=True,
        help="Neither keep on disk how a model reads what every prompt begins with, nor use it.",
    ),
)
