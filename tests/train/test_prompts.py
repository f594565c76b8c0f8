"""A router from recorded chats: read as in service, labelled by verification, exported, judged."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from gguf import GGUFValueType

from edge_router.agent.chat import Asked, Conversation
from edge_router.cli.main import main
from edge_router.engine.sampling import Sampler
from edge_router.engine.tier import TierSpec
from edge_router.errors import UserError
from edge_router.router.base import Decision, Features, Router
from edge_router.router.feature_table import ALL_NAMES
from edge_router.router.onnx_router import OnnxRouter
from edge_router.router.spec import RouterSpec
from edge_router.work.pool import Backend
from edge_router.work.progress import silent
from tests.edit_gguf import rewrite
from tests.tiny_gguf import TINY_QWEN3, write_tiny, write_tiny_ladder
from tests.toy_forest import toy_forest
from train.router.decoder import Decoder, LogitsRecorder
from train.router.explore import ExplorePlan
from train.router.forest import Forest, walk
from train.router.front import Point
from train.router.node import ANY, Node, Writing, child_key, root_key
from train.router.options import RunOptions, SftConfig
from train.router.policies import FixedPolicy
from train.router.prompts import stages
from train.router.prompts.agreement import Judge, divergences
from train.router.prompts.comparison import verdict_of
from train.router.prompts.lines import PromptGame, read_prompts
from train.router.prompts.reading import CALLS, PromptDecoder, PromptExplorer, comes_to
from train.router.prompts.setting import PromptSetting, context_for
from train.router.run import Run, dealt
from train.router.tree import GameTree

NAMES = ("q3_k_m", "q8_0")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "prompts.jsonl"
USER, OTHER = {"role": "user", "content": "hello"}, {"role": "user", "content": "and then?"}
SAID = {"role": "assistant", "content": "well, well"}
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def game(*messages: dict[str, Any], tools: list[dict[str, Any]] | None = None) -> PromptGame:
    return PromptGame(json.dumps({"messages": messages, "tools": tools or []}), 1)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> PromptSetting:
    paths = write_tiny_ladder(tmp_path_factory.mktemp("tiny"), tiers=NAMES)
    specs = tuple(TierSpec(name, paths[name]) for name in NAMES)
    return PromptSetting(specs, max_tokens=6, context=512)


@pytest.fixture(scope="module")
def decoder(setting: PromptSetting) -> Iterator[PromptDecoder]:
    found = setting.decoder()
    assert isinstance(found, PromptDecoder)
    with found.ladder:
        yield found


def road(decoder: PromptDecoder, chat: PromptGame) -> list[Node]:
    """The steps of a chat, the end among them."""
    explorer = PromptExplorer(GameTree(chat), decoder)
    nodes = [explorer.root]
    while not nodes[-1].done:
        nodes.append(explorer.child(nodes[-1], tier=len(nodes) % 2))
    return nodes


# -- the file -----------------------------------------------------------------------------------


def test_every_turn_of_the_assistants_is_a_step_and_so_is_the_answer_that_is_missing() -> None:
    assert game(USER).steps == (1,)
    assert game(USER, SAID).steps == (1,)
    assert game({"role": "system", "content": ""}, USER, SAID, OTHER).steps == (2, 4)


def test_the_example_has_chats_turns_and_tools() -> None:
    found = read_prompts(EXAMPLES)
    assert len(found) > 60
    assert {prompt.kind for prompt in found} == {"chat", "tools"}
    assert max(len(prompt.steps) for prompt in found) > 2


def test_a_prompt_is_read_once_in_whatever_spelling(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    parts = {"role": "user", "content": [{"type": "text", "text": "hello"}]}
    lines = [{"messages": [USER]}, {"messages": [parts], "tools": None, "id": 7}]
    file.write_text("\n".join(["", *map(json.dumps, lines), ""]))
    (found,) = read_prompts(file)
    assert found.line == 2
    assert found.messages == [USER]


CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": "{"}}]}
WRONG = {
    "{": "line 2: it is not JSON",
    "[]": "line 2: it has no messages",
    '{"prompt": "x"}': "line 2: it has no messages",
    '{"messages": []}': "its list of messages is empty",
    '{"messages": ["x"]}': "message 1 has the role None",
    '{"messages": [{"role": "god", "content": ""}]}': "there are system, user, assistant, tool",
    '{"messages": [{"role": "user"}]}': "message 1 has no content",
    '{"messages": [{"role": "system", "content": "x"}]}': "it has no message of the user's",
    json.dumps({"messages": [SAID, USER]}): "message 1 is the assistant's; a chat begins with",
    json.dumps({"messages": [USER, SAID, SAID]}): "message 3 is the assistant's, and so is",
    json.dumps({"messages": [USER, {"role": "system", "content": "x"}]}): "in front of all",
    json.dumps({"messages": [USER, {"role": "tool", "content": "3"}]}): "calls none",
    json.dumps({"messages": [USER, CALL]}): "calls add with arguments that are no JSON object",
    json.dumps({"messages": [USER], "tools": [{"name": "add"}]}): "a tool is ",
    json.dumps({"messages": [USER], "tools": "add"}): "its tools are no list",
    "\udcff": "line 2: it is not UTF-8",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_line_that_is_wrong_is_told_with_its_number(line: str, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    good = json.dumps({"messages": [USER]})
    file.write_bytes(f"{good}\n{line}\n{good}".encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as error:
        read_prompts(file)
    assert str(error.value).startswith(f"{file}, line 2: ")
    assert WRONG[line] in str(error.value)


# -- what tiers answer --------------------------------------------------------------------------


class _Asked(Router):
    """Keeps what it is shown and says low."""

    def __init__(self) -> None:
        self.spec, self.decide_at = RouterSpec("asked"), "draft"
        self.seen: list[Features] = []

    def reset(self, tiers: tuple[str, ...], seed: int) -> None:
        pass

    def decide(self, features: Features) -> Decision:
        self.seen.append(features)
        return Decision(0, "low")


def test_a_router_is_trained_on_what_it_is_shown_in_service(
    decoder: PromptDecoder, setting: PromptSetting
) -> None:
    chat = game({"role": "system", "content": "Be brief."}, USER, SAID, OTHER, tools=[ADD])
    first, second, end = road(decoder, chat)
    assert end.won
    router = _Asked()
    asked = Asked(Sampler(), max_tokens=6, tools=[ADD])
    with setting.load() as ladder:
        for end_of in chat.steps:
            Conversation(ladder).answer(chat.messages[:end_of], router, asked)
    shown = [seen.vector for seen in router.seen]
    assert np.array_equal(first.features, shown[0])
    # A conversation that it did not write has answers of which it knows the words alone.
    unknown = [ALL_NAMES.index(name) for name in ("last_entropy", "new_tokens")]
    rest = np.delete(np.arange(len(ALL_NAMES)), unknown)
    assert second.features[rest] == pytest.approx(shown[1][rest], abs=1e-3)
    assert second.features[unknown[0]] == first.features[ALL_NAMES.index("entropy")]


def test_the_verified_answer_is_the_high_tiers_own(decoder: PromptDecoder) -> None:
    for text in ("hello", "what is 2 + 2?", "tell me a story"):
        (node, _) = road(decoder, game({"role": "user", "content": text}))
        alone = Decoder.write(decoder, 1, LogitsRecorder())
        low, high = node.writings
        assert high.tokens == alone.tokens
        assert low.kl_sum > 0
        assert high.kl_sum == 0


def test_what_follows_is_recorded_whoever_wrote(decoder: PromptDecoder) -> None:
    nodes = road(decoder, game(USER, SAID, OTHER))
    forest = Forest(2)
    tree = GameTree(game(USER, SAID, OTHER))
    tree.add(nodes)
    forest.add_tree(tree)
    low, high = (walk(forest, np.array([0]), FixedPolicy(tier)).rows for tier in (0, 1))
    assert np.array_equal(low, high)
    assert [node.tier for node in nodes] == [0, ANY, ANY]


def test_answers_are_compared_by_their_calls() -> None:
    one = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    same = 'So. <tool_call>{"name": "add", "arguments": {"b": 2, "a": 1}}</tool_call>'
    assert comes_to(one, ["add"]) == comes_to(same, ["add"])
    assert comes_to(one, ["add"]) != comes_to(one.replace("2", "3"), ["add"])
    assert comes_to(one, ["sub"]) == one
    assert comes_to(" 3 ", ["add"]) == "3"


# -- labels and what is left --------------------------------------------------------------------


def calling_forest(actions: list[tuple[str, str]]) -> Forest:
    """One chat; at each step what the low tier and the high one come to, at a KL of 2."""
    forest, tree = Forest(2), GameTree(game(USER))
    key, parent = root_key(tree.game.key), None
    for step, pair in enumerate([*actions, None]):
        writings = tuple(
            Writing(text, (index,), text, 0.9, 0.1, 1, 2.0 - 2 * index, 0.5, 0.5)
            for index, text in enumerate(pair or ())
        )
        done = pair is None
        features = np.zeros(len(ALL_NAMES), np.float32)
        tier = ANY if parent else 0
        tree.add([Node(key, parent, tier, step, "", False, done, done, 9, features, writings)])
        parent, key = key, child_key(key, ())
    forest.add_tree(tree)
    return forest


def test_calls_differ_or_not_and_text_differs_by_its_kl() -> None:
    forest = calling_forest([("a", "b"), (f"{CALLS}1", f"{CALLS}1"), ("a", f"{CALLS}1")])
    assert divergences(forest)[:3, 0].tolist() == [2.0, 0.0, np.inf]
    assert divergences(forest)[:3, 1].tolist() == [0.0, 0.0, 0.0]
    judge = Judge.of(forest, np.array([0]))
    assert judge.cap == 2.0
    assert judge.loss[:3, 0].tolist() == [2.0, 0.0, 2.0]
    assert judge.same[:3, 0].tolist() == [False, True, False]


def test_the_low_tier_leaves_all_and_the_high_one_nothing() -> None:
    forest, games = toy_forest()
    judge = Judge.of(forest, games)
    low, high = (judge.point(games, FixedPolicy(tier), 0.5) for tier in (0, 1))
    assert (low.share, low.success) == (0.0, 0.0)
    assert (high.share, high.success) == (1.0, 1.0)


def sums(escalated: list[float], loss: list[float], n: int = 40) -> dict[str, np.ndarray[Any, Any]]:
    """`n` prompts of one step, of which these come in turn."""
    loss_of, share = (np.resize(np.array(v), n) for v in (loss, escalated))
    zeros = np.zeros(n)
    counted = {"same": zeros, "calls": zeros, "same_calls": zeros}
    return {"steps": np.ones(n), "escalated": share, "loss": loss_of, **counted}


LOW, HIGH = sums([0], [0, 0, 0, 4]), sums([1], [0])


@pytest.mark.parametrize(
    ("low", "ours", "said"),
    [
        (sums([0], [0]), sums([0], [0]), "There is nothing to route: all 40 test answers"),
        (LOW, LOW, "The router does the same with every prompt: 9 prompts taught it nothing"),
        (LOW, sums([0, 0, 0, 1], [0]), "There is something to route: with 25 % escalated"),
        (LOW, sums([1, 0, 0, 0], [0, 0, 0, 4]), "That there is something to route is not shown"),
    ],
)
def test_the_verdict_says_whether_there_is_anything_to_route(
    low: dict[str, Any], ours: dict[str, Any], said: str
) -> None:
    assert verdict_of(low, HIGH, ours, {}, 9)[0].startswith(said)


def test_a_rule_that_does_as_well_is_named() -> None:
    perfect = sums([0, 0, 0, 1], [0])
    _, told = verdict_of(LOW, HIGH, perfect, {RouterSpec("draft", "0.3"): perfect}, 9)
    assert told.startswith("The rule draft:0.3 does as well without training")


def test_the_middle_of_the_dial_escalates_a_fifth() -> None:
    points = [Point(d, s, s, 1) for d, s in ((0.0, 0.0), (0.4, 0.1), (0.6, 0.3), (1.0, 0.9))]
    assert stages.middle(points) == pytest.approx(0.5)
    assert stages.middle([Point(d, 0.5, 0.5, 1) for d in (0.0, 1.0)]) == 0.0
    assert stages.middle([Point(d, 0.1, 0.1, 1) for d in (0.0, 1.0)]) == 1.0


# -- a run --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(setting: PromptSetting, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on a dozen chats, of one network."""
    prompts = [game({"role": "user", "content": f"say {n}"}, SAID, OTHER) for n in range(12)]
    options = RunOptions(
        backend=Backend(1),
        plan=ExplorePlan((), 0),
        states=(0,),
        decide_at=("draft",),
        sft=SftConfig(epochs=2),
    )
    run = Run(
        tmp_path_factory.mktemp("run"),
        setting,
        options,
        sets=dealt(prompts, "the test makes", "prompts"),
    )
    for stage in (stages.collect, stages.supervise, stages.export, stages.evaluate):
        stage(run)
    run.close()
    return run


def test_the_router_is_one_for_this_ladder(trained: Run, setting: PromptSetting) -> None:
    router = OnnxRouter(trained.folder / "router.onnx")
    assert router.file.tiers == NAMES
    with setting.load() as ladder:
        asked = Asked(Sampler(), max_tokens=4)
        answer = Conversation(ladder).answer([USER], router, asked)
    assert answer.tier in NAMES
    assert "p(escalate)" in answer.reason


def test_the_table_holds_the_router_against_rules_and_chance(trained: Run) -> None:
    note = trained.note("evaluate")
    rows = {row["name"]: row for row in note["rows"]}
    low, high = rows["always q3_k_m"], rows["always q8_0"]
    assert (low["share"]["value"], low["left"]["value"]) == (0, 1)
    assert (high["share"]["value"], high["left"]["value"], high["same"]["value"]) == (1, 0, 1)
    chance = rows["random, the router's share"]
    assert chance["left"]["value"] == pytest.approx(1 - chance["share"]["value"])
    assert {f"{kind}, same share" for kind in ("entropy", "margin", "draft")} < set(rows)
    assert note["verdict"]
    table = (trained.folder / "table-test.md").read_text()
    assert all(name in table for name in rows)


def test_what_was_answered_is_not_answered_again(trained: Run, setting: PromptSetting) -> None:
    again = Run(trained.folder, setting, trained.options, sets=trained.sets)
    stages.collect(again)
    again.close()
    assert again.note("collect")["decoded_now"] == 0
    other = Run(trained.folder, replace(setting, max_tokens=7), trained.options, sets=trained.sets)
    with pytest.raises(UserError, match="run the stage collect first"):
        stages.supervise(other)
    other.close()


# -- the command --------------------------------------------------------------------------------


def command(setting: PromptSetting, folder: Path, *options: str) -> list[str]:
    tiers = [f"--tier={spec.name}={spec.path}" for spec in setting.tiers]
    return ["train", "router", *tiers, f"--run={folder / 'run'}", *options]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--task=prompts"], "wants a file of chats"),
        (["--prompts=few"], "--prompts goes with --task prompts"),
        (["--task=prompts", "--prompts=few"], "few holds 2 prompts; at least 6 are needed"),
        (["--task=prompts", "--prompts=none"], "none holds no prompts"),
        (["--task=prompts", "--prompts=gone"], "there is no such file"),
        (["--task=prompts", "--prompts=few", "--stage=grpo"], "prompts have no stage grpo"),
        (["--task=prompts", "--prompts=few", "--games=x"], "--games is for tasks that are played"),
        (["--task=prompts", "--prompts=few", "--cost=x"], "--cost is for tasks that are played"),
        (
            ["--task=prompts", "--prompts=few", "--test-games=9"],
            "--test-games is for tasks that are played",
        ),
        (
            ["--task=prompts", "--prompts=few", "--no-official"],
            "--official is for tasks that are played",
        ),
        (["--task=prompts", "--prompts=long"], "long, line 6: the prompt has "),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    setting: PromptSetting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"messages": [{"role": "user", "content": str(n)}]}) for n in range(6)]
    Path("few").write_text("\n".join(lines[:2]))
    Path("none").write_text("\n\n")
    Path("long").write_text("\n".join([*lines[:-1], lines[-1].replace("5", "word " * 9000)]))
    result = CliRunner().invoke(main, command(setting, tmp_path, *options))
    assert result.exit_code == 2, result.output
    assert said in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_the_context_follows_the_longest_prompt(tmp_path: Path) -> None:
    low = write_tiny(tmp_path, replace(TINY_QWEN3, name="long", context=16_384))
    long = game({"role": "user", "content": "x" * 12_000})  # 6,000 tokens
    found = [context_for(low, chats, Path("p"), 6, silent) for chats in ([game(USER)], [long])]
    assert found == [4096, 8192]
    with pytest.raises(UserError, match=r"p, line 1: the prompt has \d+ tokens"):
        context_for(low, [long], Path("p"), 12_000, silent)


def test_messages_that_the_template_refuses_are_told_with_their_line(tmp_path: Path) -> None:
    (low,) = rewrite(
        write_tiny(tmp_path),
        tmp_path / "strict.gguf",
        drop=["tokenizer.chat_template"],
        add={"tokenizer.chat_template": ("{{ raise_exception('no') }}", GGUFValueType.STRING)},
    )
    with pytest.raises(UserError, match=r"p, line 1: the model's chat template refuses"):
        context_for(low, [game(USER)], Path("p"), 6, silent)


@pytest.mark.slow
def test_the_command_trains_from_the_examples(setting: PromptSetting, tmp_path: Path) -> None:
    options = ["--task=prompts", f"--prompts={EXAMPLES}", "--max-tokens=4"]
    result = CliRunner().invoke(main, command(setting, tmp_path, *options))
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "same calls" in result.stdout or "KL left" in result.stdout
    assert (tmp_path / "run" / "router.onnx").is_file()


@pytest.mark.slow
def test_an_interrupted_collection_goes_on_with_the_next_prompt(
    setting: PromptSetting, tmp_path: Path
) -> None:
    options = ["--task=prompts", f"--prompts={EXAMPLES}", "--max-tokens=64", "--stage=collect"]
    arguments = command(setting, tmp_path, *options)
    running = subprocess.Popen(
        [sys.executable, "-m", "edge_router.cli", *arguments], stderr=subprocess.PIPE, text=True
    )
    store = tmp_path / "run" / "rollouts.sqlite"
    while not (done := finished(store)) and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    assert running.wait() == 130
    assert running.stderr is not None
    assert "interrupted; the same command goes on from" in running.stderr.read()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    note = json.loads((tmp_path / "run" / "collect.json").read_text())
    assert done
    assert note["decoded_now"] < note["histories"]


def finished(store: Path) -> int:
    """How many prompts a store has the answers to."""
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as file:
            return int(file.execute("SELECT count(*) FROM finished").fetchone()[0])
    except sqlite3.Error:
        return 0
