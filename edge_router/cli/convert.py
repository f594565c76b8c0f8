"""`edge-router convert`: options in, progress on stderr, a table at the end."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_router.cli.types import FETCHABLE, FILE, POSITIONS, TEXT, THREADS, WORD
from edge_router.screen.printable import paragraphs, say
from edge_router.work.progress import ShownProgress

if TYPE_CHECKING:
    from edge_router.convert.build import Made
    from edge_router.convert.download import Fetched
    from edge_router.convert.journal import DoneTier


def tier_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `convert` and `models pull` share."""
    for option in reversed(
        [
            click.option(
                "--tiers",
                type=WORD,
                default="q3_k_m,q4_k_m,q8_0",
                show_default=True,
                help="Precisions to make, separated by commas.",
            ),
            click.option(
                "--imatrix",
                type=TEXT,
                metavar="FILE|auto",
                help="Weigh columns in the tiers below Q4 by how they are used: measured on our "
                "games (auto), on a text, or read from a GGUF.",
            ),
            click.option(
                "--verify/--no-verify",
                default=True,
                help="Compare each tier with F16. Without, text that llama.cpp reads differently "
                "is reported and not refused.",
            ),
            click.option(
                "--verify-tokens",
                type=POSITIONS,
                metavar="N",
                help="Tokens of the text, and of the games, that are compared: more take longer "
                "and give a KL that is surer.  [80]",
            ),
            click.option("--threads", type=THREADS, help="CPU threads.  [follows the machine]"),
        ]
    ):
        command = option(command)
    return command


@click.command()
@click.argument("source", type=FETCHABLE)
@tier_options
@click.option(
    "--out",
    type=FILE,
    help="Folder for the ladder.  [models/NAME in edge-router's home]",
)
@click.option("--name", type=WORD, help="What the ladder is called.  [after the source]")
@click.option(
    "--adapter", type=FILE, metavar="FOLDER", help="Merge this LoRA adapter (PEFT) on the way."
)
@click.option(
    "--allow-requantize",
    is_flag=True,
    help="Take a quantised GGUF: its blocks' values, with what quantising them lost.",
)
@click.option(
    "--prompt", type=WORD, help="household, react or tuned.  [what the source says, else react]"
)
@click.option("--keep-f16", is_flag=True, help="Keep the F16 GGUF that the tiers are made from.")
@click.option("--keep-checkpoint", is_flag=True, help="Keep a checkpoint that was downloaded.")
def convert(source: str, **options: Any) -> None:
    """Make a ladder of GGUF tiers from a checkpoint.

    SOURCE is a Hugging Face id, a folder with config.json and safetensors
    (Llama, Mistral, Qwen2, Qwen3), or an F16, BF16 or F32 GGUF; a quantised one
    with --allow-requantize. Each tier is compared with F16 on a text and on
    household games. An interrupted run goes on from the last finished file.

    \b
    edge-router convert Qwen/Qwen3-0.6B
    edge-router convert ./my-checkpoint --tiers q4_k_m,q8_0 --out my-ladder
    edge-router play --model my-ladder
    """
    run(source, ConvertOptions(**options))


@dataclass(frozen=True)
class ConvertOptions:
    """The command's options, as Click names them; `models pull` has some of them."""

    tiers: str
    imatrix: str | None
    verify: bool
    threads: int | None
    keep_checkpoint: bool
    verify_tokens: int | None = None
    out: Path | None = None
    name: str | None = None
    prompt: str | None = None
    keep_f16: bool = False
    adapter: Path | None = None
    allow_requantize: bool = False
    published: str = ""  # the Hugging Face repository of a source that is a file here


def run(source: str, options: ConvertOptions) -> Path:
    """Fetch `source` if it is not on disk, convert it, say what came out; the ladder's folder."""
    from edge_router.convert.build import Order, parse_tiers
    from edge_router.convert.build import convert as make
    from edge_router.convert.source import open_source
    from edge_router.errors import UserError
    from edge_router.ladders.resolve import models_folder

    if options.verify_tokens and not options.verify:
        raise UserError("--verify-tokens and --no-verify exclude each other; give one of them")
    wanted, out = parse_tiers(options.tiers), options.out
    repo, known_as = _remote(source)
    require_possible(options, known_as)
    if repo and not out and _is_here(known_as, wanted):
        say(f"{known_as} is here already: edge-router play --model {known_as}")
        return models_folder() / known_as
    fetched = _fetch(repo) if repo else None
    opened = open_source(
        fetched.folder if fetched else Path(source),
        repo or options.published,
        adapter=options.adapter,
        requantise=options.allow_requantize,
        prompt=options.prompt or "",
    )
    called = options.name or known_as or opened.name
    _require_name(called, out)
    order = Order(
        out=out or models_folder() / called,
        tiers=wanted,
        name=called,
        prompt=options.prompt or "",
        imatrix=options.imatrix or "",
        verify=options.verify,
        positions=options.verify_tokens,
        keep_f16=options.keep_f16,
        threads=options.threads,
    )
    with ShownProgress() as progress:
        made = make(opened, order, progress)
    if fetched and fetched.ours and not options.keep_checkpoint:
        shutil.rmtree(fetched.folder)
    report(made, _as_option(out) if out else called)
    return order.out


def require_possible(options: ConvertOptions, known_as: str = "") -> None:
    """Raise `UserError`, before anything is fetched, for what no source makes right.

    `known_as` is what the ladder is called where no name was given, "" where only the source says.
    """
    from edge_router.convert.adapter import Adapter
    from edge_router.convert.build import parse_tiers
    from edge_router.convert.importance import importance_key
    from edge_router.files.whole import require_makeable
    from edge_router.ladders.resolve import models_folder
    from edge_router.tasks.registry import find_task, style_for

    parse_tiers(options.tiers)
    if options.name is not None or known_as:
        _require_name(known_as if options.name is None else options.name, options.out)
    style_for(find_task(), {}, options.prompt or "")
    importance_key(options.imatrix or "")  # reads the file
    if options.adapter is not None:
        Adapter.open(options.adapter)
    require_makeable(options.out or models_folder())


def _require_name(name: str, out: Path | None) -> None:
    """A name that will do; one of edge-router's own only for a ladder that is played by folder."""
    from edge_router.files.paths import require_name
    from edge_router.ladders.resolve import require_free_name

    if out:
        require_name(name, "the name")
    else:
        require_free_name(name)


def _as_option(folder: Path) -> str:
    """The folder as --model takes it, whatever models there are, quoted for a shell."""
    return shlex.quote(str(folder) if len(folder.parts) > 1 else f"./{folder}")


def _remote(source: str) -> tuple[str, str]:
    """(Hugging Face id, name of the ladder) of a source that is to be fetched, else empty."""
    from edge_router.convert.download import is_repo, refuse_url
    from edge_router.convert.gguf_source import slug
    from edge_router.errors import UserError
    from edge_router.files.paths import is_folder, why_no_file
    from edge_router.ladders.catalogue import catalogue

    refuse_url(source)
    path = Path(source)
    if is_folder(path) or not why_no_file(path):
        return "", ""
    if source in catalogue():
        if catalogue()[source].recipe:
            raise UserError(f"{source} is made by a recipe; run: edge-router models pull {source}")
        return catalogue()[source].repo, source
    known = [m.name for m in catalogue().values() if m.repo.lower() == source.lower()]
    return (source, known[0] if known else slug(source)) if is_repo(source) else ("", "")


def _fetch(repo: str) -> Fetched:
    from edge_router.convert.download import fetch

    say(f"fetching {repo}", err=True)
    fetched = fetch(repo)
    if not fetched.ours:
        say(f"{repo} is in the Hugging Face cache: {fetched.folder}", err=True)
    return fetched


def _is_here(name: str, tiers: Sequence[str]) -> bool:
    """Whether the ladder exists with all these tiers."""
    from edge_router.ladders.ladder_file import LADDER_FILE, read_ladder
    from edge_router.ladders.resolve import models_folder

    folder = models_folder() / name
    if not (folder / LADDER_FILE).is_file():
        return False
    return set(tiers) <= {t.name for t in read_ladder(folder).tiers if t.path.is_file()}


def report(made: Made, model: str) -> None:
    """The table of tiers on stdout, and how to play."""
    say(table(made.tiers))
    told = [f"{what} {seconds:.1f} s" for what, seconds in made.phases.items()]
    say("\n".join(paragraphs([f"time: {', '.join(told)}"])))
    say(f"\n{made.folder / 'ladder.toml'}\nedge-router play --model {model}")


def table(tiers: list[DoneTier]) -> str:
    """A line for each text that a tier was compared on, low to high."""
    from edge_router.screen.tables import Sheet

    measured = any(t.fidelity for t in tiers)
    names = ("size", "made in")
    figures = ("KL", "\N{PLUS-MINUS SIGN}", "same top", "perplexity")
    columns = ("tier", "on", *names, *figures) if measured else ("tier", *names)
    rows = [row[: len(columns)] for tier in tiers for row in _rows(tier, measured)]
    title = "Tiers, compared with F16" if measured else "Tiers"
    return "\n".join([Sheet(title, columns, rows, 2 if measured else 1).text(), *_legend(tiers)])


def _rows(tier: DoneTier, measured: bool) -> Iterator[tuple[str, ...]]:
    size, seconds = f"{tier.size_bytes / 1e6:.1f} MB", f"{tier.seconds:.1f} s"
    if not tier.fidelity:
        yield (
            (tier.name, "", size, seconds, "", "", "", "")
            if measured
            else (tier.name, size, seconds)
        )
    for number, (kind, found) in enumerate(tier.fidelity.items()):
        first = (tier.name, kind, size, seconds) if number == 0 else ("", kind, "", "")
        error = "" if found.kl_error is None else f"{found.kl_error:.4f}"
        same, ppl = f"{found.same_top:.1%}", _perplexity(found.perplexity)
        yield (*first, f"{found.kl:.4f}", error, same, ppl)


def _legend(tiers: list[DoneTier]) -> Iterator[str]:
    compared = next((t.fidelity for t in tiers if t.fidelity), {})
    for kind, found in compared.items():
        yield (
            f"F16's perplexity on the {kind} is {_perplexity(found.f16_perplexity)} "
            f"({found.tokens} tokens)"
        )
    if compared:
        yield "KL in nats a token, \N{PLUS-MINUS SIGN} its standard error"


def _perplexity(value: float) -> str:
    return f"{value:.3f}" if value < 1e4 else f"{value:.3g}"
