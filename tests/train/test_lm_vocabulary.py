"""The household vocabulary in its three implementations: ours, transformers', llama.cpp's."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_router.engine.llama_model import LlamaModel
from edge_router.tasks.alfworld.household_prompt import compact, compact_opening
from edge_router.tasks.household.expert import Expert
from edge_router.tasks.household.generator import draw_world
from edge_router.tasks.household.pddl import read_world
from edge_router.tasks.household.simulator import Simulator
from edge_router.tasks.household.world import World
from edge_router.tasks.protocol import scripted_steps
from train.lm.export import write_gguf
from train.lm.model import HouseholdLM, LmShape
from train.lm.reference import hf_tokenizer
from train.lm.vocabulary import AGENT, END, USER, vocabulary


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaModel]:
    """A llama.cpp model that has the vocabulary; its weights do not matter here."""
    path = tmp_path_factory.mktemp("vocabulary") / "random-f16.gguf"
    with torch.inference_mode():
        write_gguf(HouseholdLM(LmShape(layers=1)), path)
    model = LlamaModel.load(path, use_mmap=False)
    yield model
    model.close()


def messages(world: World) -> list[str]:
    """Everything an expert episode of `world` puts into the prompt, raw replies included."""
    sim = Simulator(world)
    opening = sim.opening()
    expert, texts = Expert(opening), [compact_opening(opening), opening.observation]
    for step in scripted_steps(sim.step, expert, 50):
        said = step.reply.observation
        texts += [f"{step.thought}\n> {step.action}", compact(said), said]
    return texts


def assert_all_agree(llama: LlamaModel, text: str) -> None:
    ids = vocabulary().encode(text)
    assert vocabulary().decode(ids) == text
    assert llama.tokenize(text) == ids
    assert hf_tokenizer().encode(text, add_special_tokens=False) == ids


def test_tokenizers_agree_on_generated_episodes(llama: LlamaModel) -> None:
    rng = random.Random(11)
    transcript = "".join(f"{USER} {text}{AGENT} {text}{END}" for _ in range(10)
                         for text in messages(draw_world(rng)))  # fmt: skip
    assert_all_agree(llama, transcript)


@pytest.mark.skipif("ALFWORLD_DATA" not in os.environ, reason="needs the official games")
def test_tokenizers_agree_on_the_official_train_split(llama: LlamaModel) -> None:
    games = sorted((Path(os.environ["ALFWORLD_DATA"]) / "json_2.1.1/train").glob("*/*"))
    tokenizer = hf_tokenizer()
    for game in games:
        text = "".join(f"{USER} {text}{END}" for text in messages(read_world(game)))
        ids = vocabulary().encode(text)
        assert vocabulary().decode(ids) == text
        assert llama.tokenize(text) == ids
        assert tokenizer.encode(text, add_special_tokens=False) == ids


@given(st.text(alphabet=st.sampled_from("ab 1290\n>.:,<|éあ\t"), max_size=40))
def test_any_text_survives_the_vocabulary(text: str) -> None:
    assert vocabulary().decode(vocabulary().encode(text)) == text


@pytest.mark.parametrize(
    "text", [" cabinet 33", " attic", " plates", " go to toaster 12", " héllo 日本\t x", "apple 1"]
)
def test_what_is_no_word_is_spelled_alike_everywhere(llama: LlamaModel, text: str) -> None:
    assert_all_agree(llama, text)


def test_an_entity_is_one_token() -> None:
    for text in (" cabinet 12", " apple 2", " sinkbasin 1", " toiletpaperhanger 1"):
        assert len(vocabulary().encode(text)) == 1


def test_an_entity_shares_its_kind_and_number_with_its_relatives() -> None:
    v = vocabulary()
    cabinet, drawer = v.ids[" cabinet 12"], v.ids[" drawer 12"]
    assert v.parts[cabinet][0] == v.ids[" cabinet"]
    assert v.parts[cabinet][1] == v.parts[drawer][1] == 12
