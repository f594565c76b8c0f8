"""Render a GGUF's own chat template, as Hugging Face's tokenizers do.

The template is a Jinja program that comes with the model's file: it runs in a
sandbox, sees nothing but the messages, and has limits of time and memory (in a
process of its own, unless it is one we know). A model without a template gets
ChatML, the most common one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from copy import copy
from functools import lru_cache
from typing import Any, Final, Protocol

from edge_router.agent.jinja_template import ConfinedTemplate, JinjaTemplate
from edge_router.engine.llama_model import LlamaModel

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# What Qwen3's template prints for "no reasoning", taken apart.
THINK = "<think>"
NO_THOUGHT = "\n\n</think>\n\n"


# SHA-256 of templates that are known to end.
KNOWN: Final = frozenset(
    {
        "73c8c9a648d9af21693aec7baca42cef4ba06ea30f7341279fec3a63a5887718",  # the embedded model's
        "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",  # SmolLM2's
    }
)


class Template(Protocol):
    """A program that makes a text of variables."""

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text. Raises `UserError` when the template fails or takes too much."""
        ...


class ChatTemplate:
    """`bos` and `eos` are the texts of these tokens ("" for none), which templates may print."""

    def __init__(self, source: str | None, *, bos: str = "", eos: str = "") -> None:
        """Raises `UserError` when `source` is not a valid template."""
        self._template = _template(source or CHATML)
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._tools: list[Any] | None = None

    @classmethod
    def of(cls, vocab: LlamaModel) -> ChatTemplate:
        """The template of a loaded model. Raises `UserError` when it is not a valid one."""
        bos, eos = vocab.token_text(vocab.bos_id), vocab.token_text(vocab.eos_id)
        return cls(vocab.chat_template, bos=bos, eos=eos)

    def telling(self, tools: Sequence[Mapping[str, Any]]) -> ChatTemplate:
        """The template that tells the model of these functions besides."""
        told = copy(self)
        told._tools = list(tools) or None  # templates tell "none" and "undefined" apart
        return told

    def render(self, messages: Sequence[dict[str, Any]], *, lead: bool = True) -> str:
        """The conversation, with the lead-in to the model's next answer unless `lead` is False.

        Reasoning is switched off: Qwen3's template knows how, and where a
        template begins it for the model (DeepSeek-R1's) it is ended at once.
        Raises UserError when the template refuses, or goes beyond its limits.
        """
        text = self._template.render(
            {
                "messages": list(messages),
                "tools": self._tools,
                "documents": None,
                "add_generation_prompt": lead,
                "enable_thinking": False,  # Qwen3: answer without a reasoning block
                **self._tokens,
            }
        )
        return f"{text.rstrip()}{NO_THOUGHT}" if lead and text.rstrip().endswith(THINK) else text


@lru_cache(maxsize=4)  # every episode asks anew; a confined template is a process
def _template(source: str) -> Template:
    digest = hashlib.sha256(source.encode("utf-8", "replace")).hexdigest()
    known = source == CHATML or digest in KNOWN
    return JinjaTemplate(source) if known else ConfinedTemplate(source)
