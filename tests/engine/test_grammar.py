"""A text follows a grammar, whoever writes it and however it is drawn."""

from __future__ import annotations

import json
import re

import pytest

from edge_router.agent.json_grammar import call_grammar, grammar_of
from edge_router.agent.tool_calls import Way
from edge_router.engine.grammar import Grammar
from edge_router.engine.ladder import Ladder
from edge_router.engine.sampling import Sampler
from edge_router.errors import UserError
from tests.engine_fixtures import LadderMaker, make_ladder, tiny_paths

__all__ = ["make_ladder", "tiny_paths"]

WORDS = Grammar('root ::= ("ab" | "cd")+ "!"')
PLACE = {
    "type": "object",
    "properties": {"at": {"enum": ["a", "b"]}, "n": {"type": "integer"}},
    "required": ["at"],
    "additionalProperties": False,
}


def write(ladder: Ladder, constraint: Grammar, sampler: Sampler, tokens: int = 60) -> str:
    ladder.prefill([65, 66, 67])
    written = ladder.generate(1, sampler, max_tokens=tokens, constrain=constraint)
    return written.text


@pytest.mark.parametrize("seed", range(6))
def test_a_random_model_writes_what_the_grammar_lets_it(
    make_ladder: LadderMaker, seed: int
) -> None:
    ladder = make_ladder("q3_k_m", "q8_0")
    text = write(ladder, WORDS, Sampler(1.0, seed=seed))
    assert re.fullmatch(r"(ab|cd)+!", text) or (re.fullmatch(r"(ab|cd)*[ac]?", text) and text)


def test_the_limit_cuts_it_short(make_ladder: LadderMaker) -> None:
    text = write(make_ladder("q3_k_m", "q8_0"), Grammar('root ::= "a"{90}'), Sampler(), 7)
    assert 7 <= len(text) < 90
    assert set(text) == {"a"}


def test_a_stop_string_ends_it(make_ladder: LadderMaker) -> None:
    ladder = make_ladder("q3_k_m", "q8_0")
    ladder.prefill([65])
    grammar = Grammar('root ::= "abc" "def"')
    written = ladder.generate(0, Sampler(), max_tokens=20, stop=["cd"], constrain=grammar)
    assert written.text == "ab"


def test_a_draft_is_verified_under_the_same_grammar(make_ladder: LadderMaker) -> None:
    ladder = make_ladder("q3_k_m", "q8_0")
    grammar = grammar_of(PLACE)
    alone = write(ladder, grammar, Sampler())
    ladder.prefill([65, 66, 67])
    draft = ladder.generate(0, Sampler(), max_tokens=60, constrain=grammar)
    verified = ladder.verify(1, draft.proposal, Sampler(), max_tokens=60, constrain=grammar)
    assert verified.text == alone
    assert verified.accepted >= 1


@pytest.mark.parametrize("way", ["hermes", "llama"])
def test_a_call_is_written_as_the_model_writes_calls(make_ladder: LadderMaker, way: Way) -> None:
    schema = {"properties": {"to": {"$ref": "#/$defs/place"}}, "required": ["to"]}
    tools = [
        {"function": {"name": name, "parameters": schema | {"$defs": {"place": {"enum": [place]}}}}}
        for name, place in (("go", "desk"), ("look", "bed"))
    ]
    text = write(make_ladder("q3_k_m", "q8_0"), call_grammar(tools, way), Sampler())
    if way == "hermes":
        text = text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")
    call = json.loads(text)
    arguments = call["parameters" if way == "llama" else "arguments"]
    assert (call["name"], arguments["to"]) in (("go", "desk"), ("look", "bed")), (
        "each its own place"
    )


@pytest.mark.parametrize("rules", ["", "root ::= nobody", "root ::= (", "other ::= 1"])
def test_what_is_no_grammar_is_told(make_ladder: LadderMaker, rules: str) -> None:
    with pytest.raises(UserError, match="cannot read the grammar"):
        write(make_ladder("q3_k_m", "q8_0"), Grammar(rules), Sampler())
