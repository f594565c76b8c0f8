"""Every mistake is answered by one sentence on stderr, exit code 2, nothing on stdout."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, save

from edge_router.cli.main import main
from edge_router.tasks.alfworld.game_files import SHIPPED
from tests.tiny_gguf import TINY_QWEN3, write_tiny, write_tiny_ladder

SHORT = replace(TINY_QWEN3, name="tiny-household", prompt_style="household")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good ladder (q3_k_m, q8_0), and with everything that can be wrong."""
    folder = tmp_path_factory.mktemp("bad")
    for tier, path in write_tiny_ladder(folder, SHORT, ("q3_k_m", "q8_0")).items():
        path.rename(folder / f"{tier}.gguf")
    content = (folder / "q8_0.gguf").read_bytes()
    (folder / "truncated.gguf").write_bytes(content[: len(content) // 2])
    (folder / "header-only.gguf").write_bytes(content[:100])
    (folder / "text.gguf").write_text("version https://git-lfs.github.com/spec/v1\n")
    write_tiny(folder, replace(SHORT, name="wider", ffn=1024))
    write_tiny(folder, replace(SHORT, name="other-rope", rope_base=5_000.0))
    write_tiny(folder, replace(SHORT, name="llama", architecture="llama"))
    write_tiny(folder, replace(SHORT, name="other-words", vocabulary=1536))
    write_tiny(folder, replace(SHORT, name="refusing", template="{{ raise_exception('no') }}"))
    write_router(folder / "other-schema.onnx", "edge-router/features/99")
    write_router(folder / "no-schema.onnx", None)
    (folder / "text.onnx").write_text("hello")
    write_router(folder / "newer-ir.onnx", "edge-router/features/99", ir=99)
    write_router(folder / "newer-opset.onnx", "edge-router/features/99", opset=99)
    ladder(folder / "no-tiers", '[ladder]\nname = "x"\n')
    ladder(folder / "no-toml", "= what")
    ladder(folder / "no-file", '[ladder]\nname="x"\n[[tier]]\nname="q8"\nfile="absent.gguf"\n')
    (folder / "empty").mkdir()
    for name, text in (("no-json", "hello"), ("no-pddl", "{}"), ("bad-pddl", None)):
        damaged_game(folder / name, text)
    return folder


def ladder(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "ladder.toml").write_text(text)


def write_router(path: Path, schema: str | None, *, ir: int = 8, opset: int = 17) -> None:
    """A small valid network that claims to read features of some schema."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["features"], ["probabilities"])],
        "router",
        [value("features", TensorProto.FLOAT, [1, 1])],
        [value("probabilities", TensorProto.FLOAT, [1, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir
    if schema is not None:
        names = {"edge_router.schema": schema, "edge_router.features": '["entropy"]'}
        helper.set_model_props(model, names)
    save(model, str(path))


def damaged_game(root: Path, content: str | None) -> None:
    """A game folder whose game file holds `content`; None: a real game with its PDDL cut off."""
    source = next(SHIPPED.glob("*/*/game.tw-pddl"))
    target = root / source.parent.parent.name / source.parent.name
    target.mkdir(parents=True)
    (target / "traj_data.json").write_text((source.parent / "traj_data.json").read_text())
    if content is None:
        game = json.loads(source.read_text())
        content = json.dumps(game | {"pddl_problem": game["pddl_problem"][:200]})
    (target / "game.tw-pddl").write_text(content)


GOOD = "--tier=q3_k_m={}/q3_k_m.gguf --tier=q8_0={}/q8_0.gguf"


def answer(arguments: Sequence[str]) -> str:
    """The one sentence with which a command refuses its arguments."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("edge-router: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("\n")
    return result.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        # models
        ("--tier=a={}/absent.gguf --tier=b={}/q8_0.gguf", "absent.gguf does not exist"),
        ("--tier=a={}/truncated.gguf --tier=b={}/q8_0.gguf", "truncated"),
        ("--tier=a={}/q8_0.gguf --tier=b={}/header-only.gguf", "truncated"),
        (
            "--tier=a={}/text.gguf --tier=b={}/q8_0.gguf",
            "is not the file itself but a git-lfs pointer",
        ),
        ("--tier=a={} --tier=b={}/q8_0.gguf", "is a folder"),
        ("--tier=a={}/q8_0.gguf --tier=b={}/llama-0-f16.gguf", "architectures differ"),
        ("--tier=a={}/q8_0.gguf --tier=b={}/wider-0-f16.gguf", "feed_forward_length"),
        ("--tier=a={}/q8_0.gguf --tier=b={}/other-rope-0-f16.gguf", "rope.freq_base"),
        ("--tier=a={}/q8_0.gguf --tier=b={}/other-words-0-f16.gguf", "tokenizers differ"),
        ("--tier=a={}/q3_k_m.gguf --tier=a={}/q8_0.gguf", "two tiers are called"),
        ("--tier={}/q8_0.gguf", "wants NAME=PATH"),
        ("--tier=a={}/q8_0.gguf --model=household", "exclude each other"),
        ("--tier=a={}/refusing-0-f16.gguf", "chat template refuses"),
        ("--model=nonesuch", "there is no model 'nonesuch'"),
        ("--model={}/q8_0.gguf", "use --tier"),
        ("--model={}", "holds no ladder.toml"),
        ("--model={}/no-tiers", "'tier' is missing"),
        ("--model={}/no-toml", "does not describe a ladder"),
        ("--model={}/no-file", "absent.gguf does not exist"),
        # routers
        (GOOD + " --router=nonesuch", "there is no router 'nonesuch'"),
        (GOOD + " --router=tier:q4_k_m", "no tier 'q4_k_m'"),
        (GOOD + " --router=tier", "tier:NAME"),
        (GOOD + " --router=random:1.5", "between 0 and 1"),
        (GOOD + " --router=random:x", "not a number"),
        (GOOD + " --router=entropy:-1", "0 nats or more"),
        (GOOD + " --router=entropy:nan", "0 nats or more"),
        (GOOD + " --router=margin:2", "between 0 and 1"),
        (GOOD + " --router=onnx:{}/absent.onnx", "absent.onnx does not exist"),
        (GOOD + " --router=onnx:{}/text.onnx", "not an ONNX file"),
        (GOOD + " --router=onnx:{}/newer-ir.onnx", "written in a newer ONNX"),
        (GOOD + " --router=onnx:{}/newer-opset.onnx", "written in a newer ONNX"),
        (GOOD + " --router=onnx:{}/other-schema.onnx", "edge-router/features/99"),
        (GOOD + " --router=onnx:{}/no-schema.onnx", "edge_router.schema"),
        # settings
        (GOOD + " --kv=nonesuch", "unknown KV mode"),
        (GOOD + " --kv=handoff:0", "N at least 1"),
        (GOOD + " --dial=1.1", "--dial"),
        (GOOD + " --temperature=-1", "temperature"),
        (GOOD + " --temperature=hot", "--temperature"),
        (GOOD + " --top-p=0", "top-p"),
        (GOOD + " --min-p=2", "min-p"),
        (GOOD + " --seed=-1", "--seed"),
        (GOOD + " --max-steps=0", "--max-steps"),
        (GOOD + " --threads=0", "--threads"),
        (GOOD + " --ctx=1000000", "was trained for"),
        (GOOD + " --ctx=100", "use --ctx with a larger number"),
        (GOOD + " --nonesuch", "--nonesuch"),
        # tasks and games
        (GOOD + " --task=nonesuch", "there is no task 'nonesuch'"),
        (GOOD + " --split=nonesuch", "no split 'nonesuch'"),
        (GOOD + " --game=nonesuch", "no game 'nonesuch'"),
        (GOOD + " --game=999", "no game 999"),
        (GOOD + " --game=-1", "no game -1"),
        (GOOD + " --games={}/absent", "no folder of games"),
        (GOOD + " --games={}/empty", "no playable games"),
        (GOOD + " --games={}/no-json", "game.tw-pddl"),
        (GOOD + " --games={}/no-pddl", "1 without a 'solvable' mark"),
        (GOOD + " --games={}/bad-pddl", "damaged"),
        # traces
        (GOOD + " --trace={}/absent/t.jsonl", "make the folder"),
        (GOOD + " --trace={}", "is a folder"),
    ],
)
def test_play_refuses(files: Path, options: str, says: str) -> None:
    arguments = [option.replace("{}", str(files)) for option in options.split()]
    assert says in answer(["play", "--threads=1", *arguments])


@pytest.mark.parametrize(
    ("data", "says"),
    [("absent", "ALFWORLD_DATA points to"), ("empty", "no folder of games"), (None, "is not set")],
)
def test_official_splits_need_their_data(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str | None, says: str
) -> None:
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if data is not None:
        monkeypatch.setenv("ALFWORLD_DATA", str(files / data))
    options = GOOD.replace("{}", str(files)).split()
    assert says in answer(["play", *options, "--split=valid_seen"])


def test_nothing_is_loaded_before_the_trace_is_known_to_be_writable(files: Path) -> None:
    """Such a context is refused when the ladder is loaded, so it was not."""
    options = GOOD.replace("{}", str(files)).split()
    assert "make the folder" in answer(["play", *options, f"--trace={files}/a/b", "--ctx=1000000"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["replay"], "Missing argument"),
        (["replay", "{}/absent.jsonl"], "cannot be read"),
        (["replay", "{}"], "cannot be read"),
        (["replay", "{}/text.onnx"], "no trace of edge-router"),
        (["replay", "{}/text.onnx", "--speed=0"], "--speed"),
        (["games", "list", "--split=nonesuch"], "no split 'nonesuch'"),
        (["games", "list", "--games={}/empty"], "no playable games"),
        (["games", "generate"], "Missing option '--out'"),
        (["games", "generate", "--count=0", "--out={}/new"], "x>=1"),
        (["games", "generate", "--out={}"], "already holds files"),
        (["games", "generate", "--out={}/text.onnx"], "Cannot make the folder"),
        (["nonesuch"], "No such command 'nonesuch'"),
        (["--nonesuch"], "No such option '--nonesuch'"),
    ],
)
def test_other_commands_refuse(files: Path, arguments: list[str], says: str) -> None:
    assert says in answer([a.replace("{}", str(files)) for a in arguments])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("policies --json={}/x --csv={}/../x/x", "--csv and --json name the same file"),
        ("policies --json={}/x.svg --plot={}/x.svg", "--plot and --json name the same file"),
        ("policies --json={}/plans --oracle={}/plans", "--json and --oracle name the same file"),
        ("policies --csv={}/s --store={}/s", "--csv and --store name the same file"),
        ("tiers --csv={}/s --store={}/s", "--csv and --store name the same file"),
        ("speed --json={}/x --csv={}/x", "--csv and --json name the same file"),
    ],
)
def test_two_options_never_write_one_file(tmp_path: Path, arguments: str, says: str) -> None:
    (tmp_path / "x").mkdir()
    folder = tmp_path / "x"
    assert says in answer(["bench", *arguments.replace("{}", str(folder)).split()])
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("plans", "says"),
    [
        ("{}", "its schema is None"),
        (
            '{"schema": "edge-router/plans/1", "plans": {"x": [0, 9]}}',
            "2 tiers from 0 on",
        ),
        ('{"schema": "edge-router/plans/1", "plans": {"x": ["a"]}}', "holds no plans"),
        ('{"schema": "edge-router/plans/1", "pl', "it is not JSON"),
        ("\x89PNG\r\n", "cannot be read as plans"),
    ],
)
def test_plans_that_the_ladder_cannot_follow_are_refused(
    tmp_path: Path, plans: str, says: str
) -> None:
    (tmp_path / "plans").write_bytes(plans.encode("latin-1"))
    command = ["bench", "policies", "--routers=oracle", f"--oracle={tmp_path / 'plans'}"]
    assert says in answer([*command, f"--store={tmp_path / 'store'}"])
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--tiers=q9", "there is no tier 'q9'"),
        ("--imatrix={}/absent", "--imatrix wants auto"),
        ("--name=household", "give another one with --name"),
        ("--name=a/b", "the name 'a/b' will not do"),
        ("--verify-tokens=3", "x>=16"),
    ],
)
@pytest.mark.parametrize("model", ["Qwen/Qwen3-0.6B", "qwen3-0.6b", "household-smol"])
def test_nothing_is_fetched_before_the_rest_is_right(
    files: Path, monkeypatch: pytest.MonkeyPatch, model: str, options: str, says: str
) -> None:
    monkeypatch.setattr(socket, "socket", _no_network)
    monkeypatch.setattr("edge_router.convert.adapter._found", _no_network)
    assert says in answer(["models", "pull", model, options.replace("{}", str(files))])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--prompt=nonesuch", "there is no prompt style"),
        ("--adapter={}/absent", "is no adapter"),
        ("--out={}/text.onnx", "text.onnx is a file"),
        ("--out={}/text.onnx/in", "text.onnx is a file"),
    ],
)
def test_convert_fetches_nothing_before_the_rest_is_right(
    files: Path, monkeypatch: pytest.MonkeyPatch, options: str, says: str
) -> None:
    monkeypatch.setattr(socket, "socket", _no_network)
    assert says in answer(["convert", "Qwen/Qwen3-0.6B", options.replace("{}", str(files))])


def _no_network(*_: object, **__: object) -> None:
    raise AssertionError("it goes to the network")


def test_a_mistake_in_a_real_process_leaves_no_traceback(files: Path) -> None:
    program = Path(sys.executable).with_name("edge-router")
    done = subprocess.run(
        [program, "play", f"--tier=a={files}/truncated.gguf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
