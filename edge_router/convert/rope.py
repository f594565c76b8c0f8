"""Rotary position embeddings: what config.json says of them, under llama.cpp's keys.

transformers and llama.cpp compute the same angles for four kinds: default,
linear, llama3 and yarn. What llama.cpp would leave out is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_router.convert.checkpoint import require_number
from edge_router.errors import UserError

if TYPE_CHECKING:
    from gguf import GGUFWriter

Hparams = Mapping[str, Any]
_BETA_FAST, _BETA_SLOW = 32.0, 1.0  # yarn's, the only ones that llama.cpp takes for these models
# The numbers that each kind of rope must have.
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "yarn": (),
}
_YARN: Final = (
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "mscale",
    "mscale_all_dim",
    "beta_fast",
    "beta_slow",
)


def rope(hparams: Hparams) -> Mapping[str, Any]:
    """The rope's parameters, wherever this version of transformers keeps them."""
    found: Mapping[str, Any] = hparams.get("rope_parameters") or hparams.get("rope_scaling") or {}
    return found


def rope_type(hparams: Hparams) -> str:
    return str(rope(hparams).get("rope_type") or rope(hparams).get("type") or "default")


def rope_base(hparams: Hparams) -> float:
    return float(rope(hparams).get("rope_theta") or hparams.get("rope_theta") or 10_000.0)


def head_width(hparams: Hparams) -> int:
    return int(hparams.get("head_dim") or hparams["hidden_size"] // hparams["num_attention_heads"])


def require_rope(folder: Path, architecture: str, hparams: Hparams) -> None:
    """Refuse what llama.cpp would compute differently. Raises `UserError`."""
    kind, scaling = rope_type(hparams), rope(hparams)
    if any(isinstance(value, Mapping) for value in scaling.values()):
        raise UserError(f"{folder} has another rope for each kind of layer, which llama.cpp lacks")
    if kind not in _NEEDED:
        raise UserError(
            f"{folder} scales its rope by {kind!r}, which cannot be converted; supported are "
            f"{', '.join(_NEEDED)}"
        )
    if kind == "llama3" and architecture != "llama":
        raise UserError(
            f"{folder} scales its rope by 'llama3', which llama.cpp has for Llama and Mistral alone"
        )
    _require_numbers(folder / "config.json", kind, scaling)
    if scaling.get("partial_rotary_factor") not in (None, 1.0):
        raise UserError(f"{folder} rotates only a part of each head, which cannot be converted")
    if kind == "yarn":
        _require_usual_range(folder, hparams)


def _require_numbers(config: Path, kind: str, scaling: Mapping[str, Any]) -> None:
    for key in _NEEDED[kind]:
        require_number(config, f"the rope's {key}", scaling.get(key), above=0)
    if "rope_theta" in scaling:  # null has no meaning in transformers
        require_number(config, "the rope's rope_theta", scaling["rope_theta"], above=1)
    for key in ("partial_rotary_factor", *(_YARN if kind == "yarn" else ())):
        value = scaling.get(key)
        if value is not None and value != 0:  # transformers takes 0 for "not given"
            require_number(config, f"the rope's {key}", value, above=0)


# -- yarn -----------------------------------------------------------------------------------


def _original_context(hparams: Hparams) -> float:
    scaling = rope(hparams)
    return float(
        scaling.get("original_max_position_embeddings") or hparams["max_position_embeddings"]
    )


def _yarn_factor(hparams: Hparams) -> float:
    given = rope(hparams).get("factor")
    if given is not None:
        return float(given)
    return float(hparams["max_position_embeddings"]) / _original_context(hparams)


def _magnitude(factor: float, mscale: float = 1.0) -> float:
    return 1.0 if factor <= 1.0 else 0.1 * mscale * math.log(factor) + 1.0


def yarn_attention_ratio(hparams: Hparams) -> float:
    """What transformers multiplies sines and cosines with, in units of what llama.cpp does."""
    scaling, factor = rope(hparams), _yarn_factor(hparams)
    wanted, one, all_dims = (
        scaling.get(key) for key in ("attention_factor", "mscale", "mscale_all_dim")
    )
    if wanted is None and one and all_dims:
        wanted = _magnitude(factor, one) / _magnitude(factor, all_dims)
    return 1.0 if wanted is None else float(wanted) / _magnitude(factor)


def _require_usual_range(folder: Path, hparams: Hparams) -> None:
    """llama.cpp reads the ends of yarn's ramp for other architectures only."""
    scaling = rope(hparams)
    fast, slow = scaling.get("beta_fast") or _BETA_FAST, scaling.get("beta_slow") or _BETA_SLOW
    whole = bool(scaling.get("truncate", True))
    if _ramp(hparams, fast, slow, whole=whole) == _ramp(hparams, _BETA_FAST, _BETA_SLOW):
        return
    said = f"beta_fast {fast}, beta_slow {slow}" + ("" if whole else ", truncate false")
    raise UserError(
        f"{folder} scales its rope by yarn with {said}, and llama.cpp has only beta_fast 32, "
        "beta_slow 1 for this architecture; it cannot be converted"
    )


def _ramp(hparams: Hparams, fast: float, slow: float, *, whole: bool = True) -> tuple[float, float]:
    """The dimensions between which yarn goes from extrapolation to interpolation."""
    width, base, context = head_width(hparams), rope_base(hparams), _original_context(hparams)

    def dimension(rotations: float) -> float:
        return width * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = dimension(fast), dimension(slow)
    if whole:
        low, high = math.floor(low), math.ceil(high)
    return max(low, 0), min(high, width - 1)


# -- into the file --------------------------------------------------------------------------


def write_rope(writer: GGUFWriter, hparams: Hparams) -> None:
    """The rope's base and scaling; llama3's factors are a tensor."""
    from gguf import RopeScalingType

    writer.add_rope_freq_base(rope_base(hparams))
    kind = rope_type(hparams)
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope(hparams)["factor"]))
    if kind == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(_yarn_factor(hparams))
        writer.add_rope_scaling_orig_ctx_len(int(_original_context(hparams)))
        ratio = yarn_attention_ratio(hparams)
        if abs(ratio - 1.0) > 1e-9:  # "yarn_attn_factor" is another key, of another architecture
            writer.add_rope_scaling_attn_factors(ratio)


def llama3_rope_factors(hparams: Hparams) -> NDArray[np.float32]:
    """What each frequency is divided by, (head_width / 2,).

    Llama 3.1 stretches wavelengths beyond the original context by `factor`,
    leaves the short ones alone and blends in between (transformers,
    modeling_rope_utils, "llama3"). In float32 throughout, as there and in
    llama.cpp's converter, so that the numbers are the same to the last bit.
    """
    scaling, width, single = rope(hparams), head_width(hparams), np.float32
    exponents = np.arange(0, width, 2, dtype=single) / single(width)
    frequencies = single(1.0) / single(rope_base(hparams)) ** exponents
    wavelengths = single(2 * math.pi) / frequencies
    original = float(scaling["original_max_position_embeddings"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    factor = single(scaling["factor"])
    blend = (single(original) / wavelengths - single(low)) / single(high - low)
    stretched = single(1.0) / ((single(1.0) - blend) / factor + blend)
    stretched = np.where(wavelengths > original / low, factor, stretched)
    factors: NDArray[np.float32] = np.where(wavelengths < original / high, single(1.0), stretched)
    return factors
