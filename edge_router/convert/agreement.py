"""Whether llama.cpp takes special tokens, chats and added tokens as transformers does.

A GGUF says less of a token than a tokenizer.json: not that a token takes in the
white space beside it, nor that it only counts as a word of its own. A chat that
comes out otherwise is refused; what shows beside some texts only is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from edge_router.agent.template import ChatTemplate
from edge_router.convert.special import SpecialTokens, around_text
from edge_router.convert.vocabulary import NORMAL, UNUSED, Vocabulary
from edge_router.engine.llama_model import LlamaModel
from edge_router.errors import UserError

Read = Callable[[str], list[int]]  # a text's tokens, as the checkpoint was trained with

_CHAT: Final = (
    {"role": "user", "content": "Put a clean apple in the fridge."},
    {"role": "assistant", "content": "I look for an apple.\n> go to table 1"},
    {"role": "user", "content": "You see an apple."},
)
_MOST_OVERLAPS: Final = 2000  # texts


def remarks(
    model: LlamaModel, tokenizer: Any, vocabulary: Vocabulary, read: Read, lead: str
) -> Iterator[str]:
    """What is otherwise, a sentence each; `lead` goes before a text that is read.

    Raises `UserError` for what would spoil every game.
    """
    special = vocabulary.special
    _require_same_specials(model, special)
    yield from _ends(model, vocabulary)
    yield from _around(model, tokenizer)
    if special.templates:
        _require_same_chat(model, tokenizer, read)
    else:
        yield "the checkpoint has no chat template: its prompt is written as ChatML"
    yield from _added_tokens(model, tokenizer, read, lead)


def _require_same_specials(model: LlamaModel, special: SpecialTokens) -> None:
    pairs = {
        "BOS": (special.bos, model.bos_id if special.bos is not None else None),
        "EOS": (special.ends[0], model.eos_id),
        "a BOS before a text": (special.adds_bos, model.adds_bos),
        "the chat template": (special.templates.get("default"), model.chat_template),
    }
    for what, (wanted, got) in pairs.items():
        if wanted != got:
            raise UserError(f"llama.cpp takes {got!r} for {what}, transformers {wanted!r}")


def _ends(model: LlamaModel, vocabulary: Vocabulary) -> Iterator[str]:
    tokens, ends = vocabulary.tokens, vocabulary.special.ends
    if vocabulary.types[ends[0]] == UNUSED:
        yield "the checkpoint names no end token: only the game's format ends a completion"
    missed = [tokens[end] for end in ends if not model.is_eog(end)]
    if missed:
        yield f"llama.cpp does not end a completion at {_listed(missed)}, as transformers does"
    ordinary = [i for i, kind in enumerate(vocabulary.types) if kind == NORMAL and i not in ends]
    wrong = [tokens[i] for i in ordinary if model.is_eog(i)]
    if wrong:
        yield f"llama.cpp ends a completion at {_listed(wrong)}, ordinary text to transformers"


def _around(model: LlamaModel, tokenizer: Any) -> Iterator[str]:
    before, after = around_text(tokenizer)
    text = model.tokenize("a")
    got = model.tokenize("a", add_special=True)
    if got != [*before, *text, *after]:
        show = tokenizer.convert_ids_to_tokens
        yield (
            f"transformers puts {show(before)} before a text and {show(after)} behind it, which a "
            "GGUF cannot say"
        )


def _require_same_chat(model: LlamaModel, tokenizer: Any, read: Read) -> None:
    bos = model.token_text(model.bos_id)
    template = ChatTemplate(model.chat_template, bos=bos, eos=model.token_text(model.eos_id))
    try:
        wanted = tokenizer.apply_chat_template([*_CHAT], tokenize=False, enable_thinking=False)
    except Exception:  # a template may refuse any chat, ours as well
        return
    got = template.render(_CHAT, lead=False)
    if got != wanted:
        raise UserError(
            f"the chat template comes out as {wanted[:200]!r} in transformers and as "
            f"{got[:200]!r} here"
        )
    if model.adds_bos and not wanted.startswith(bos):
        wanted = bos + wanted
    theirs, ours = read(wanted), model.tokenize(wanted)
    if theirs != ours:
        raise UserError(
            "llama.cpp would read this checkpoint's chats differently: "
            f"{parting(tokenizer, theirs, ours)}{_because(tokenizer, wanted)}"
        )


# -- added tokens ---------------------------------------------------------------------------


def _added_tokens(model: LlamaModel, tokenizer: Any, read: Read, lead: str) -> Iterator[str]:
    added = [token.content for token in tokenizer.added_tokens_decoder.values()]
    wrong: dict[str, str] = {}  # token -> the first text with it that is read otherwise
    for token, text in texts_with(added):
        if token not in wrong and read(lead + text) != model.tokenize(lead + text):
            wrong[token] = lead + text
    if not wrong:
        return
    text = next(iter(wrong.values()))
    some = "one added token" if len(wrong) == 1 else f"{len(wrong)} added tokens"
    yield (
        f"llama.cpp reads {some} otherwise beside some texts ({_listed(list(wrong))}): {text!r} is "
        f"{parting(tokenizer, read(text), model.tokenize(text))}{_because(tokenizer, text)}"
    )


def texts_with(added: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(token, text): each token alone, in words, after and before white space, in another."""
    for token in added:
        for around in ("{}", "a{}b", "a {} b", "a\n{}\nb", "a{} b"):
            yield token, around.replace("{}", token)
    yield from _overlaps(added)


def _overlaps(added: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Texts in which one token begins before another ends."""
    beginnings: dict[str, list[str]] = {}
    for token in added:
        for n in range(1, len(token)):
            beginnings.setdefault(token[:n], []).append(token)
    found = 0
    for token in added:
        for n in range(1, len(token)):
            for other in beginnings.get(token[-n:], ()):
                found += 1
                if found > _MOST_OVERLAPS:
                    return
                yield token, token + other[n:]


def _because(tokenizer: Any, text: str) -> str:
    """Why, where the tokenizer has a rule for a token in `text` that a GGUF cannot hold."""
    for token in tokenizer.added_tokens_decoder.values():
        if token.content not in text:
            continue
        if token.lstrip or token.rstrip:
            return f"; {token.content!r} takes in the white space beside it, and no GGUF can say so"
        if token.single_word:
            return f"; {token.content!r} counts as a word of its own only, and no GGUF can say so"
    return ""


# -- words ----------------------------------------------------------------------------------


def _listed(tokens: Sequence[str]) -> str:
    """The first few, quoted."""
    shown = ", ".join(repr(token) for token in tokens[:4])
    return f"{shown} and {len(tokens) - 4} more" if len(tokens) > 4 else shown


def parting(tokenizer: Any, wanted: Sequence[int], got: Sequence[int]) -> str:
    """Where two readings part, in words of the vocabulary."""
    same = 0
    while same < min(len(wanted), len(got)) and wanted[same] == got[same]:
        same += 1
    theirs, ours = wanted[same : same + 4], got[same : same + 4]
    return (
        f"{tokenizer.convert_ids_to_tokens(theirs)} in the checkpoint, "
        f"{tokenizer.convert_ids_to_tokens(ours)} in llama.cpp"
    )
