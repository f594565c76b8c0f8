"""Ask llama.cpp whether two loaded files read and write text alike.

A GGUF may leave out how its tokenizer is set, and what llama.cpp takes then depends on the kind
of tokenizer. Two builds of one model may so say the same in different words; comparing what the
loaded vocabularies do settles it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from edge_router.engine.llama_model import LlamaModel
from edge_router.errors import UserError

_TEXTS: Final = (
    "You are in the middle of a room. You see a cabinet 12.",
    " a  b\n\n\tc \r\n",
    "don't 1234567 x+=1 __init__ <|im_start|><s></s> \u00e4\u4f60\u597d\U0001f600",
)


def require_same_text(models: Sequence[LlamaModel]) -> None:
    """Raise `UserError` naming the difference unless all vocabularies do the same."""
    for other in models[1:]:
        difference = next(_differences(models[0], other), None)
        if difference is not None:
            raise UserError(
                f"{models[0].path.name} and {other.path.name} are not builds of one model: "
                f"{difference}; the tiers of a ladder must be quantised from the same checkpoint"
            )


def _differences(a: LlamaModel, b: LlamaModel) -> Iterator[str]:
    if a.n_vocab != b.n_vocab:
        yield f"one has {a.n_vocab} tokens and the other {b.n_vocab}"
        return
    for what, one, two in zip(_SETTINGS, a.text_settings(), b.text_settings(), strict=True):
        if one != two:
            yield f"{what} is {one} in one and {two} in the other"
    for text in _TEXTS:
        if a.tokenize(text) != b.tokenize(text):
            yield f"they make other tokens of the text {text!r}"
    if [i for i in range(a.n_vocab) if a.is_eog(i) != b.is_eog(i)]:
        yield "other tokens end a text"


_SETTINGS: Final = (
    "the token that begins a text",
    "the token that ends a text",
    "the token that ends a turn",
    "add_bos_token",
    "add_eos_token",
)
