"""A checkpoint's special tokens and chat template: read as transformers does, written as a GGUF.

The files of a checkpoint often contradict each other. What counts is what
transformers makes of them:

    BOS, EOS, padding   the tokenizer's; else generation_config.json's, else config.json's
    further ends        all that generation_config.json, or else config.json, lists
    around a text       what the tokenizer itself puts before and behind one
    chat template       chat_template.jinja, else tokenizer_config.json

A GGUF cannot say "none". Where it is silent, llama.cpp takes token 11 of a
byte-level vocabulary, an ordinary one; so an id that no text has is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_router.errors import UserError
from edge_router.files.data_files import read_json

if TYPE_CHECKING:
    from gguf import GGUFWriter

_OTHERS: Final = ("unk", "sep", "pad", "mask")
# llama.cpp ends at these by itself, so they need none of the two keys for further ends.
_ENDS_BY_TEXT: Final = frozenset(
    (
        "</s>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<end_of_turn>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
    )
)


@dataclass(frozen=True)
class SpecialTokens:
    """Token ids; the first of `ends` is EOS, and `bos` is None where there is none to name."""

    bos: int | None
    ends: tuple[int, ...]
    others: Mapping[str, int]  # by kind: "pad", "unk" ...
    adds_bos: bool
    adds_eos: bool
    templates: Mapping[str, str]  # by name; "default" is the one that is used

    def write(self, writer: GGUFWriter, tokens: Sequence[str]) -> None:
        """Write them; `tokens` is the whole vocabulary."""
        if self.bos is not None:
            writer.add_bos_token_id(self.bos)
        writer.add_eos_token_id(self.ends[0])
        further = [end for end in self.ends[1:] if tokens[end] not in _ENDS_BY_TEXT]
        keys = (writer.add_eot_token_id, writer.add_eom_token_id)
        for add, end in zip(keys, further, strict=False):
            add(end)
        for kind, token in self.others.items():
            getattr(writer, f"add_{kind}_token_id")(token)
        writer.add_add_bos_token(self.adds_bos)
        writer.add_add_eos_token(self.adds_eos)
        if self.templates:
            named = [{"name": name, "template": text} for name, text in self.templates.items()]
            writer.add_chat_template(named)


def read_special(folder: Path, tokenizer: Any, size: int) -> SpecialTokens:
    """What transformers takes for a vocabulary of `size` tokens. Raises `UserError`."""
    named = _Named(folder, tokenizer, size)
    nothing = _unused(tokenizer, size)
    ends = named("eos") or ([] if nothing is None else [nothing])
    if not ends:
        raise UserError(
            f"{folder} names no end token, and llama.cpp would take an ordinary one; write the id "
            'of one as "eos_token_id" into its generation_config.json'
        )
    templates = _templates(folder, tokenizer)
    before, after = around_text(tokenizer)
    bos = before[-1:] or named("bos")
    if tokenizer.bos_token is None and any("bos_token" in text for text in templates.values()):
        bos = before[-1:]  # transformers prints nothing there
    return SpecialTokens(
        bos=bos[0] if bos else nothing,
        ends=tuple(ends),
        others={kind: ids[0] for kind in _OTHERS if (ids := named(kind))},
        adds_bos=bool(before),
        adds_eos=bool(after),
        templates=templates,
    )


class _Named:
    """The ids that the files name for a kind of special token, the tokenizer's first."""

    def __init__(self, folder: Path, tokenizer: Any, size: int) -> None:
        files = ("generation_config.json", "config.json")
        self._settings = [_settings(folder / file) for file in files]
        self._tokenizer, self._size = tokenizer, size

    def __call__(self, kind: str) -> list[int]:
        own = self._ids(getattr(self._tokenizer, f"{kind}_token_id", None))
        listed = (self._ids(settings.get(f"{kind}_token_id")) for settings in self._settings)
        return list(dict.fromkeys([*own, *next(filter(None, listed), [])]))

    def _ids(self, value: object) -> list[int]:
        """The ids in a setting (one, a list, or null); -1 and the like stand for none."""
        values = value if isinstance(value, list) else [value]
        whole = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
        return [v for v in whole if 0 <= v < self._size]


def around_text(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens that transformers puts (before, behind) a text by itself."""
    text = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = list(tokenizer("a")["input_ids"])
    starts = (i for i in range(len(whole)) if whole[i : i + len(text)] == text)
    at = next(starts, 0)
    return whole[:at], whole[at + len(text) :]


def _settings(path: Path) -> dict[str, Any]:
    """What a file says, nothing where it cannot be read: transformers goes on without it."""
    try:
        found = read_json(path) if path.is_file() else {}
    except UserError:
        found = {}
    return found if isinstance(found, dict) else {}


def _unused(tokenizer: Any, size: int) -> int | None:
    """An id that no token has, because embeddings are often padded; None where all are taken."""
    taken = set(tokenizer.get_vocab().values())
    return next((i for i in reversed(range(size)) if i not in taken), None)


def _templates(folder: Path, tokenizer: Any) -> dict[str, str]:
    found = tokenizer.chat_template
    if not found:
        return {}
    named = found if isinstance(found, dict) else {"default": found}
    wrong = next((name for name, text in named.items() if not isinstance(text, str)), None)
    if wrong is not None:
        raise UserError(f"the chat template {wrong!r} in {folder} is not a text")
    if "default" not in named:
        raise UserError(
            f"{folder} has chat templates by name ({', '.join(sorted(named))}), and transformers "
            "takes none of them by itself; put the one to be used into chat_template.jinja"
        )
    return named
