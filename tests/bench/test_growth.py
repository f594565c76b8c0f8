"""A grown ladder writes what the small one writes, in another shape."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from edge_router.agent.episode import Options, play_episode
from edge_router.bench.grow import GROWABLE, Growth, find_growth, grow, parse_types
from edge_router.bench.growth import first_of_block
from edge_router.bench.sizes import Sizes
from edge_router.bench.synthetic import SHAPES, Shape
from edge_router.cli.main import main
from edge_router.engine.gguf_file import read_header
from edge_router.engine.ladder import Ladder
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.quantise import WeightColumns, weight_types
from edge_router.errors import UserError
from edge_router.evaluate.records import GameRecord, Recorder
from edge_router.ladders.ladder_file import LadderFile, read_details, read_ladder
from edge_router.ladders.resolve import find_ladder
from edge_router.results.file import read_results
from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec
from edge_router.tasks.registry import find_task
from tests.kept_process import kept_process

__all__ = ["kept_process"]  # a fixture

# Four times as wide, two layers more, heads four times as wide, another vocabulary.
LARGER = Shape("larger", "qwen3", 1024, 5, 16, 8, 128, 2560, 5000, 1024, 1e4)
TIERS = ("iq1_s", "q8_0")


@pytest.fixture(scope="module")
def small() -> LadderFile:
    return find_ladder("household")


@pytest.fixture(scope="module")
def grown(small: LadderFile, tmp_path_factory: pytest.TempPathFactory) -> LadderFile:
    growth = Growth(small, LARGER, ("q4_k", "q8_0"))
    return read_ladder(grow(growth, folder=tmp_path_factory.mktemp("grown") / growth.name))


def play(ladder: LadderFile, number: int, router: str) -> tuple[GameRecord, list[int]]:
    """A game's record, and the tokens of its whole text."""
    task = find_task("alfworld")
    ref = task.games("generated", None).games[number]
    recorder = Recorder()
    options = Options(max_steps=10, fingerprints=False)
    with (
        Ladder.load(ladder.tiers, n_ctx=1024, n_threads=1) as loaded,
        closing(task.open(ref)) as game,
    ):
        play_episode(game, loaded, make_router(router), options, [recorder])
        return recorder.record(ref.id, ref.kind, "", 0), list(loaded.tiers[0].held)


def log_probabilities(path: Path, tokens: list[int]) -> NDArray[np.float64]:
    """(token, vocabulary): what is likely after each token."""
    model = LlamaModel.load(path, use_mmap=False)
    context = LlamaContext(model, n_ctx=1024, n_threads=1, max_rows=512)
    logits = context.decode_rows(tokens, 0).astype(np.float64)
    context.close()
    model.close()
    logits -= logits.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return found


def require_same_logits(small: LadderFile, grown: LadderFile, tokens: list[int]) -> None:
    assert len(tokens) >= 120
    for one, other in zip(small.tiers, grown.tiers, strict=True):
        p, q = log_probabilities(one.path, tokens), log_probabilities(other.path, tokens)
        known = p.shape[1]
        top = np.sort(p, axis=1)[:, -2:]
        other = p.argmax(axis=1) != q.argmax(axis=1)
        assert other.mean() < 0.02
        assert (top[other, 1] - top[other, 0] < 0.1).all()  # only near ties turn
        divergence = (np.exp(p) * (p - q[:, :known])).sum(axis=1)
        assert divergence.mean() < 5e-4
        assert q[:, known:].max() < -100  # added tokens are never written


def test_every_tier_of_a_grown_ladder_says_what_the_small_one_says(
    small: LadderFile, grown: LadderFile
) -> None:
    record, tokens = play(small, 20, "random:0.5")
    assert {step.tier for step in record.steps} == set(TIERS)
    require_same_logits(small, grown, tokens)
    again, _ = play(grown, 20, "random:0.5")
    assert (again.actions, again.won) == (record.actions, record.won)


def test_a_grown_tier_has_the_shape_and_the_types_that_were_asked_for(grown: LadderFile) -> None:
    low, high = (read_header(spec.path) for spec in grown.tiers)
    assert Sizes.of(low) == Sizes.of(high) == Sizes(1024, 5, 2560, 16, 8, 128, 5000)
    assert low.tensors["blk.4.ffn_up.weight"].type_name == "Q4_K"
    assert low.tensors["blk.2.ffn_up.weight"].type_name == "Q4_K"
    assert high.tensors["blk.4.ffn_up.weight"].type_name == "Q8_0"


def test_a_grown_ladder_is_made_once_and_again_when_something_changes(
    small: LadderFile, grown: LadderFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    growth = Growth(small, LARGER, ("q4_k", "q8_0"))
    reads: list[Path] = []

    def counted(folder: Path) -> dict[str, Any]:
        reads.append(folder)
        return read_details(folder)

    monkeypatch.setattr("edge_router.bench.grow.read_details", counted)
    files = [spec.path for spec in grown.tiers]
    before = [path.stat().st_mtime_ns for path in files]
    assert grow(growth, folder=grown.folder) == grown.folder
    assert [path.stat().st_mtime_ns for path in files] == before
    assert reads == [grown.folder]
    files[0].unlink()
    grow(growth, folder=grown.folder)
    assert files[0].is_file()
    assert files[1].stat().st_mtime_ns != before[1]


def test_a_grown_ladder_has_the_router_that_its_source_has_now(
    small: LadderFile, grown: LadderFile, tmp_path: Path
) -> None:
    def suggested(router: RouterSpec) -> RouterSpec:
        growth = Growth(replace(small, router=router), LARGER, ("q4_k", "q8_0"))
        return read_ladder(grow(growth, folder=grown.folder)).router

    trained = tmp_path / "router.onnx"
    trained.write_bytes(b"trained anew")
    here = grown.folder / "router.onnx"
    assert suggested(RouterSpec.trained(trained)) == RouterSpec.trained(here)
    assert here.read_bytes() == b"trained anew"
    budget = RouterSpec.parse("budget:0.2")
    within = suggested(budget.around(RouterSpec.trained(trained)))
    assert within == budget.around(RouterSpec.trained(here))
    assert suggested(small.router) == grown.router
    assert here.read_bytes() == (small.folder / "router.onnx").read_bytes()


def test_a_benchmark_of_a_grown_ladder_compares_with_the_high_tier_alone(
    grown: LadderFile, tmp_path: Path
) -> None:
    command = ["bench", "policies", f"--model={grown.folder}", "--games=1", "--routers=low,high"]
    command += ["--max-steps=2", "--threads=1", f"--store={tmp_path / 's.sqlite'}"]
    result = CliRunner().invoke(main, [*command, f"--json={tmp_path / 'p.json'}"])
    assert result.exit_code == 0, result.output
    assert "household grown to the shape of larger" in result.output
    assert "iq1_s has q4_k" in " ".join(result.output.split())
    rows = {r["row"]: r for r in read_results(tmp_path / "p.json")["tables"]["policies"]}
    assert list(rows) == ["low", "high", "alone:q8_0"]
    assert rows["alone:q8_0"]["times_as_fast"] is None
    for row in ("low", "high"):
        times = rows[row]["times_as_fast"]
        walls = [rows[name]["wall_s"]["mean"] for name in ("alone:q8_0", row)]
        assert times["value"] == pytest.approx(walls[0] / walls[1])
        assert rows[row]["same_actions"]["value"] in (0.0, 1.0)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K", "Q5_K", "Q6_K"])
def test_the_carried_constant_stands_alone_in_its_block(kind: str) -> None:
    block = np.frombuffer(first_of_block(kind, -1.0), np.uint8)
    weights = dequantize(block, GGMLQuantizationType[kind]).ravel()
    assert weights[0] == -1.0
    assert not weights[1:].any()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--as=qwen3-2b"], "shapes are qwen3-0.6b"),
        (["--as=smollm2-135m"], "shapes are"),
        (["--as-types=low=q4_k"], "belongs to --as"),
        (["--as=qwen3-0.6b", "--as-types=low=q9"], "wants TIER=PRECISION"),
        (["--as=qwen3-0.6b", "--as-types=middle=q4_k"], "wants TIER=PRECISION"),
        (["--as=qwen3-0.6b", "--model=absent"], "there is no model"),
        (["--as=qwen3-0.6b", "--as-types=low=q8_0,iq1_s=q4_0"], "iq1_s is given twice"),
        (["--as=qwen3-0.6b", "--games=0"], "--games"),
        # what only the play itself used to find out, gigabytes later
        (["--as=qwen3-0.6b", "--split=valid_seen"], "ALFWORLD_DATA is not set"),
        (["--as=qwen3-0.6b", "--games=9999"], "--games asks for 9999"),
        (["--as=qwen3-0.6b", "--routers=nonesuch"], "there is no router"),
        (["--as=qwen3-0.6b", "--routers=tier:nonesuch"], "no tier 'nonesuch'"),
        (["--as=qwen3-0.6b", "--routers=alone:nonesuch"], "no tier 'nonesuch'"),
        (["--as=qwen3-0.6b", "--routers=oracle"], "give --oracle FILE"),
        (["--as=qwen3-0.6b", "--against=nonesuch"], "there is no router"),
        (["--as=qwen3-0.6b", "--costs=nonesuch"], "there is no cost profile"),
        (["--as=qwen3-0.6b", "--dial=2"], "--dial 2: dials"),
        (["--as=qwen3-0.6b", "--kv=nonesuch"], "unknown KV mode"),
        (["--as=qwen3-0.6b", "--temperature=-1"], "temperature"),
        (["--as=qwen3-0.6b", "--ctx=1000000"], "was trained for"),
        (["--as=qwen3-0.6b", "--store=/dev/null/x"], "/dev/null is a file"),
        (["--as=qwen3-0.6b", "--store=README.md"], "cannot be used"),
        (["--as=qwen3-0.6b", "--traces=README.md"], "--traces README.md cannot be made"),
        (["--as=qwen3-0.6b", "--dask=nonesuch"], "there is no dask scheduler"),
        (["--as=qwen3-0.6b", "--dask=tcp://127.0.0.1:1"], "there is no dask scheduler"),
    ],
)
def test_bad_input_is_told_in_one_sentence(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    monkeypatch.chdir(Path(__file__).parents[2])
    result = CliRunner().invoke(main, ["bench", "policies", *arguments])
    assert result.exit_code == 2, result.output
    assert says in " ".join(result.stderr.split())
    assert not (tmp_path / "home" / "cache" / "models").exists()


def test_a_disk_without_room_is_told_before_anything_is_written(
    small: LadderFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_router.bench.grow.free_bytes", lambda folder: 1000)
    with pytest.raises(UserError, match=r"needs [0-9]+ MB in .*, where 0.0 MB are free"):
        grow(Growth(small, LARGER, ("q4_k", "q8_0")), folder=tmp_path / "grown")
    assert not (tmp_path / "grown").exists()


def test_a_model_that_would_have_to_shrink_is_refused(small: LadderFile) -> None:
    sizes = Sizes.of(read_header(small.tiers[0].path))
    with pytest.raises(UserError, match="layers would shrink"):
        sizes.grown(replace(LARGER, layers=2))
    with pytest.raises(UserError, match="3 times as wide"):
        sizes.grown(replace(LARGER, width=512))
    with pytest.raises(UserError, match="no multiples"):
        sizes.grown(replace(LARGER, width=576))


def test_types_are_those_that_llama_cpp_gives_a_whole_model() -> None:
    types = weight_types("q4_k_m", WeightColumns(4))
    assert types["token_embd.weight"] == types["blk.3.ffn_down.weight"] == "Q6_K"
    assert types["blk.0.ffn_up.weight"] == "Q4_K"
    assert parse_types("high=q6_k", TIERS) == ("q4_k_m", "q6_k")


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["qwen3-0.6b", "qwen3-1.7b"])
def test_a_real_shape_says_what_the_small_one_says(
    shape: str, small: LadderFile, tmp_path: Path
) -> None:
    """Two quantised files of up to 1.8 GB each, which are holes on most disks."""
    assert shape in GROWABLE
    grown = read_ladder(grow(find_growth(small, shape, None), folder=tmp_path / shape))
    for spec in grown.tiers:
        sizes, wanted = Sizes.of(read_header(spec.path)), SHAPES[shape]
        assert (sizes.width, sizes.layers, sizes.ffn) == (wanted.width, wanted.layers, wanted.ffn)
        assert sizes.vocabulary == wanted.vocabulary
    _, tokens = play(small, 20, "random:0.5")
    require_same_logits(small, grown, tokens)
