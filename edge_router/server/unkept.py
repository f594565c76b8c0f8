"""Fields that other servers take, which would change the answer and are not offered here.

A client takes for done what is let through. So a request with one of them is refused, unless the
value asks for nothing: zero, empty, or what switches the field off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from edge_router.server.errors import ApiError

_PENALTY: Final = "penalties are not offered"
_SAMPLER: Final = "this sampler is not offered; there are temperature, top_k, top_p and min_p"
_SCHEMA: Final = "this form is not offered; send response_format with a JSON schema"
_TOOLS: Final = "functions are offered as tools; send tools and tool_choice"
_WITHOUT: Final = "it is not offered"
_OFF: Final[Mapping[str, tuple[object, ...]]] = {  # besides zero and what is empty
    "repeat_penalty": (1,),
    "repetition_penalty": (1,),
    "tfs_z": (1,),
    "typical_p": (1,),
    "top_n_sigma": (-1,),
    "n_predict": (-1,),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
}
_WHY: Final[Mapping[str, str]] = {
    "frequency_penalty": _PENALTY,
    "presence_penalty": _PENALTY,
    "repeat_penalty": _PENALTY,
    "repetition_penalty": _PENALTY,
    "dry_multiplier": _PENALTY,
    "mirostat": _SAMPLER,
    "mirostat_mode": _SAMPLER,
    "tfs_z": _SAMPLER,
    "typical_p": _SAMPLER,
    "top_a": _SAMPLER,
    "top_n_sigma": _SAMPLER,
    "xtc_probability": _SAMPLER,
    "dynatemp_range": _SAMPLER,
    "grammar": _SCHEMA,
    "guided_json": _SCHEMA,
    "guided_regex": _SCHEMA,
    "guided_choice": _SCHEMA,
    "guided_grammar": _SCHEMA,
    "structured_outputs": _SCHEMA,
    "functions": _TOOLS,
    "function_call": _TOOLS,
    "n_predict": "send max_tokens",
    "n_probs": "send logprobs and top_logprobs",
    "chat_template_kwargs": "the chat template gets no settings; reasoning is switched off",
    "logit_bias": _WITHOUT,
    "bad_words": _WITHOUT,
    "stop_token_ids": "send stop, with texts",
    "min_tokens": _WITHOUT,
    "ignore_eos": _WITHOUT,
    "image_data": "this server reads texts alone",
    "modalities": "this server writes texts alone",
    "audio": "this server writes texts alone",
    "web_search_options": _WITHOUT,
}


def refuse_unkept(fields: Mapping[str, Any]) -> None:
    """Raises `ApiError` for the first of these fields that asks for something."""
    for name, value in fields.items():
        if name in _WHY and _asks(value, _OFF.get(name, ())):
            raise ApiError(400, f"{name}: {_WHY[name]}; leave it out", param=name)


def _asks(value: object, off: tuple[object, ...]) -> bool:
    if isinstance(value, Mapping):
        return any(_asks(part, off) for part in value.values())
    return bool(value) and value not in off
