"""Special tokens, chat template and added tokens: the GGUF says what transformers does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_router.agent.template import CHATML
from edge_router.convert.tokens import check_vocabulary, vocabulary_model
from edge_router.convert.vocabulary import UNUSED, load_tokenizer, read_vocabulary
from edge_router.engine.llama_model import LlamaModel
from edge_router.errors import UserError
from tests.checkpoints import (
    SPECIALS,
    VOCABULARY,
    edit_json,
    write_checkpoint,
    write_f16,
    write_tokenizer,
)

END, START, TURN = range(3)  # the ids of SPECIALS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A byte-level tokenizer whose BOS, EOS and padding are named by tokenizer_config.json."""
    write_tokenizer(tmp_path / "t", "qwen2")
    return tmp_path / "t"


def write_settings(folder: Path, name: str, **settings: object) -> None:
    (folder / name).write_text(json.dumps(settings))


def forget(folder: Path, *keys: str) -> None:
    """Take keys out of tokenizer_config.json."""

    def drop(data: dict[str, Any]) -> None:
        for key in keys:
            data.pop(key, None)

    edit_json(folder / "tokenizer_config.json", drop)


def add_tokens(folder: Path, *tokens: dict[str, object]) -> list[int]:
    """Put added tokens into tokenizer.json; returns their ids."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    ids = []

    def add(data: dict[str, Any]) -> None:
        free = max(*data["model"]["vocab"].values(), *(a["id"] for a in data["added_tokens"])) + 1
        for i, token in enumerate(tokens):
            data["added_tokens"].append({"id": free + i, "special": True} | plain | token)
            ids.append(free + i)

    edit_json(folder / "tokenizer.json", add)
    return ids


@contextmanager
def converted(folder: Path, size: int = VOCABULARY) -> Iterator[LlamaModel]:
    """llama.cpp with the folder's vocabulary."""
    vocabulary = read_vocabulary(folder, load_tokenizer(folder), size)
    with vocabulary_model(folder, vocabulary, "llama") as model:
        yield model


def remarks(folder: Path) -> tuple[str, ...]:
    tokenizer = load_tokenizer(folder)
    vocabulary = read_vocabulary(folder, tokenizer, VOCABULARY)
    return check_vocabulary(folder, vocabulary, tokenizer, "llama")


def ends(model: LlamaModel) -> set[int]:
    return {i for i in range(model.n_vocab) if model.is_eog(i)}


# -- ends -----------------------------------------------------------------------------------


def test_a_list_of_end_tokens_that_only_config_json_has_is_taken(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    write_settings(folder, "config.json", eos_token_id=[300, 301])
    with converted(folder) as model:
        assert model.eos_id == 300
        assert ends(model) == {300, 301, END, TURN}  # llama.cpp knows these two by their text


def test_ends_come_from_the_tokenizer_then_generation_config_then_config(folder: Path) -> None:
    write_settings(folder, "generation_config.json", eos_token_id=[301, TURN])
    write_settings(folder, "config.json", eos_token_id=302)
    with converted(folder) as model:
        assert model.eos_id == TURN
        assert ends(model) == {301, END, TURN}
    write_settings(folder, "generation_config.json", eos_token_id=None)
    with converted(folder) as model:
        assert ends(model) == {302, END, TURN}


def test_further_ends_than_a_gguf_has_keys_for_are_reported(folder: Path) -> None:
    write_settings(folder, "generation_config.json", eos_token_id=[TURN, 301, 302])
    with converted(folder) as model:
        assert ends(model) == {TURN, END, 301, 302}
    assert remarks(folder) == ()
    write_settings(folder, "generation_config.json", eos_token_id=[TURN, 301, 302, 303])
    (said,) = remarks(folder)
    assert said.startswith("llama.cpp does not end a completion at '")


def test_special_tokens_map_json_names_tokens_too(folder: Path) -> None:
    forget(folder, "eos_token", "bos_token")
    names = {"eos_token": SPECIALS[TURN], "bos_token": {"content": SPECIALS[START]}}
    write_settings(folder, "special_tokens_map.json", **names)
    with converted(folder) as model:
        assert (model.bos_id, model.eos_id) == (START, TURN)


def test_ids_that_no_token_has_stand_for_none(folder: Path) -> None:
    forget(folder, "eos_token", "pad_token")
    write_settings(folder, "generation_config.json", eos_token_id=[-1, VOCABULARY], pad_token_id=-1)
    write_settings(folder, "config.json", eos_token_id=301, pad_token_id=302)
    with converted(folder) as model:
        assert model.eos_id == 301
        assert model.metadata["tokenizer.ggml.padding_token_id"] == "302"


def test_a_vocabulary_and_its_merges_in_two_files_are_a_tokenizer(folder: Path) -> None:
    edit_json(
        folder / "tokenizer_config.json", lambda d: d.update(tokenizer_class="Qwen2Tokenizer")
    )
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    with pytest.raises(UserError, match="holds no tokenizer"):
        load_tokenizer(folder)
    (folder / "merges.txt").write_text("\n".join(" ".join(pair) for pair in model["merges"]))
    assert remarks(folder) == ()


def test_a_checkpoint_without_an_end_token_gets_an_id_that_no_text_has(folder: Path) -> None:
    forget(folder, "eos_token", "bos_token")
    tokenizer = load_tokenizer(folder)
    vocabulary = read_vocabulary(folder, tokenizer, VOCABULARY)
    with vocabulary_model(folder, vocabulary, "llama") as model:
        assert vocabulary.types[model.eos_id] == vocabulary.types[model.bos_id] == UNUSED
        assert model.token_text(model.bos_id) == ""
        assert 11 not in ends(model)
    assert any("names no end token" in said for said in remarks(folder))


def test_without_an_id_to_spare_it_is_refused_with_what_to_write(folder: Path) -> None:
    forget(folder, "eos_token")
    full = len(load_tokenizer(folder))
    with pytest.raises(UserError, match=r"names no end token.*generation_config\.json"):
        read_vocabulary(folder, load_tokenizer(folder), full)


def test_ordinary_text_that_llama_cpp_ends_at_is_reported(folder: Path) -> None:
    edit_json(
        folder / "tokenizer.json",
        lambda d: d["model"]["vocab"].update({"[EOS]": VOCABULARY - 2}),
    )
    assert any("ends a completion at '[EOS]'" in said for said in remarks(folder))


def test_settings_that_cannot_be_read_are_left_out(folder: Path) -> None:
    file = folder / "generation_config.json"
    file.unlink(missing_ok=True)
    without = read_vocabulary(folder, load_tokenizer(folder), VOCABULARY)
    file.write_text("{")
    assert read_vocabulary(folder, load_tokenizer(folder), VOCABULARY).special == without.special


# -- around a text --------------------------------------------------------------------------


def template_processing(folder: Path, *parts: str) -> None:
    """Let tokenizer.json put `parts` around a text ("$A")."""
    ids = {text: i for i, text in enumerate(SPECIALS)}
    single = [
        {"Sequence": {"id": "A", "type_id": 0}}
        if part == "$A"
        else {"SpecialToken": {"id": part, "type_id": 0}}
        for part in parts
    ]
    special = {p: {"id": p, "ids": [ids[p]], "tokens": [p]} for p in parts if p != "$A"}
    processor = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": special,
    }
    edit_json(folder / "tokenizer.json", lambda d: d.update(post_processor=processor))


@pytest.mark.parametrize("kind", ["llama-bpe", "qwen2", "sentencepiece-json", "sentencepiece"])
@pytest.mark.parametrize("setting", [None, True, False])
@pytest.mark.parametrize("which", ["bos", "eos"])
def test_a_text_gets_the_tokens_that_transformers_gives_it(
    kind: str, setting: bool | None, which: str, tmp_path: Path
) -> None:
    folder = tmp_path / "t"
    write_tokenizer(folder, kind)
    key = f"add_{which}_token"
    edit_json(folder / "tokenizer_config.json", lambda d: d.update({key: setting}))
    if setting is None:
        forget(folder, key)
    with converted(folder) as model:
        assert model.tokenize("a", add_special=True) == load_tokenizer(folder)("a")["input_ids"]


def test_bos_and_eos_around_a_text_come_along(folder: Path) -> None:
    template_processing(folder, SPECIALS[END], "$A", SPECIALS[TURN])
    with converted(folder) as model:
        got = model.tokenize("a", add_special=True)
    assert (got[0], got[-1]) == (END, TURN)


def test_a_bos_that_only_the_post_processor_names_is_bos(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    template_processing(folder, SPECIALS[START], "$A")
    with converted(folder) as model:
        assert model.bos_id == START
        assert model.adds_bos


def test_more_around_a_text_than_a_gguf_can_say_is_reported(folder: Path) -> None:
    template_processing(folder, SPECIALS[START], SPECIALS[END], "$A")
    assert any("before a text" in said for said in remarks(folder))


# -- the chat template ----------------------------------------------------------------------

OURS, THEIRS = CHATML, CHATML.replace("user", "human") + "{# another #}"


def jinja_and_config(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(OURS)
    set_template(folder, THEIRS)


def jinja_and_null(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(OURS)
    set_template(folder, None)


def named(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    set_template(folder, {"default": OURS, "tool_use": THEIRS})


def listed(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    both = {"tool_use": THEIRS, "default": OURS}
    set_template(folder, [{"name": n, "template": t} for n, t in both.items()])


def further_files(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(OURS)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(THEIRS)


def set_template(folder: Path, value: object) -> None:
    edit_json(folder / "tokenizer_config.json", lambda d: d.update(chat_template=value))


@pytest.mark.parametrize("form", [jinja_and_config, jinja_and_null, named, listed, further_files])
def test_the_template_that_transformers_takes_comes_along(
    form: Callable[[Path], None], folder: Path
) -> None:
    form(folder)
    assert load_tokenizer(folder).get_chat_template() == OURS
    with converted(folder) as model:
        assert model.chat_template == OURS


def test_templates_without_a_default_are_refused_as_transformers_does(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    set_template(folder, [{"name": "chat", "template": OURS}])
    with pytest.raises(UserError, match=r"by name \(chat\).*put the one to be used into"):
        read_vocabulary(folder, load_tokenizer(folder), VOCABULARY)


@pytest.mark.parametrize("none", [None, "", [], {}])
def test_a_checkpoint_without_a_template_is_reported_what_it_gets(
    none: object, folder: Path
) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    set_template(folder, none)
    assert remarks(folder) == (
        "the checkpoint has no chat template: its prompt is written as ChatML",
    )


def test_a_template_that_prints_a_bos_which_the_tokenizer_lacks_prints_nothing(
    folder: Path,
) -> None:
    forget(folder, "bos_token")
    write_settings(folder, "config.json", bos_token_id=END)
    (folder / "chat_template.jinja").write_text("{{ bos_token }}" + OURS)
    assert remarks(folder) == ()


# -- added tokens ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["llama-bpe", "qwen2", "gpt-2", "smollm", "sentencepiece", "sentencepiece-first"]
)
def test_there_is_nothing_to_tell_of_what_is_read_alike(kind: str, tmp_path: Path) -> None:
    write_tokenizer(tmp_path / kind, kind)
    assert remarks(tmp_path / kind) == ()


def test_a_space_after_a_token_that_llama_cpp_doubles_is_reported(tmp_path: Path) -> None:
    """transformers' Metaspace puts no space before text that begins with one."""
    write_tokenizer(tmp_path / "t", "sentencepiece-json")
    (said,) = remarks(tmp_path / "t")
    assert "'a <unk> b' is ['▁b'] in the checkpoint, ['▁', '▁b'] in llama.cpp" in said


@pytest.mark.parametrize("content", ["\u2581x", "<my token>", "  ", "", "<|im_end|>x"])
def test_an_added_token_of_any_text_is_read_alike(content: str, folder: Path) -> None:
    add_tokens(folder, {"content": content, "special": False})
    assert remarks(folder) == ()


FIVE: list[dict[str, object]] = [{"content": f"<|x{i}|>"} for i in range(5)]


@pytest.mark.parametrize(
    ("tokens", "why"),
    [
        ([{"content": "<|me|>", "rstrip": True}], "'<|me|>' takes in the white space"),
        ([{"content": "<|me|>", "lstrip": True}], "'<|me|>' takes in the white space"),
        ([{"content": "tool", "single_word": True, "special": False}], "'tool' counts as a word"),
        (
            [{"content": "ab", "special": False}, {"content": "bcd", "special": False}],
            "'abcdb' is ['ab', 'c', 'd', 'b'] in the checkpoint, ['a', 'bcd', 'b'] in llama.cpp",
        ),
    ],
    ids=["rstrip", "lstrip", "single_word", "overlap"],
)
def test_added_tokens_that_a_gguf_cannot_carry_are_reported(
    tokens: list[dict[str, object]], why: str, folder: Path
) -> None:
    add_tokens(folder, *FIVE, *tokens)
    (said,) = remarks(folder)
    assert why in said


def test_a_chat_that_llama_cpp_reads_differently_is_refused_or_reported(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "ck", "qwen3")
    add_tokens(folder, *FIVE, {"content": "<|assistant|>", "rstrip": True})
    template = "{% for m in messages %}<|assistant|>\n{{ m['content'] }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    target = tmp_path / "f16.gguf"
    with pytest.raises(UserError, match=r"chats differently.*takes in the white space") as error:
        write_f16(folder, target)
    assert "--no-verify" in str(error.value)
    assert not target.exists()
    said = write_f16(folder, target, check=False)
    assert any("chats differently" in sentence for sentence in said)
    assert target.is_file()
