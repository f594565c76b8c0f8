"""Load the tiers of a ladder, and refuse files that make up none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from edge_router.engine.fingerprint import require_same_model, require_same_text
from edge_router.engine.gguf_file import GgufHeader, read_header
from edge_router.engine.llama import LlamaContext
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.tier import KvMode, Tier, TierSpec
from edge_router.engine.tier_sizes import Need, plan, with_fewer
from edge_router.engine.tier_spec import AUTO, DEFAULT_CONTEXT, GpuLayers, ModelRuntime
from edge_router.engine.trust import require_promised, require_tried
from edge_router.engine.verify import ROWS
from edge_router.errors import UserError

# Types that ggml repacks for its fast CPU kernels (on one processor or another).
# A repacked tier read through mmap would lie in memory twice.
_REPACKED = frozenset(
    ("Q4_0", "Q4_1", "Q8_0", "Q2_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4")
)


def default_context(specs: Sequence[TierSpec]) -> int:
    """What the model was trained for, but no more than an episode needs."""
    return min(trained_context(specs[0]), DEFAULT_CONTEXT)


def trained_context(spec: TierSpec) -> int:
    """The tokens of context that a tier was trained for; no end where its file does not say."""
    header = read_header(spec.path)
    said = header.metadata.get(f"{header.architecture}.context_length", "")
    return int(said) if said.isdecimal() else sys.maxsize


def untrained(tokens: int, name: str, trained: int) -> UserError:
    """What is wrong with a context of so many tokens for the model called `name`."""
    return UserError(
        f"a context of {tokens} tokens is asked for, and {name} was trained for 1 to {trained}"
    )


def settled(machine: ModelRuntime, specs: Sequence[TierSpec]) -> ModelRuntime:
    """What the models run on, with a context: the one asked for, or the default."""
    return replace(machine, ctx=default_context(specs)) if machine.ctx is None else machine


def load_tiers(
    specs: Sequence[TierSpec],
    kv: KvMode,
    *,
    n_ctx: int,
    n_threads: int | None,
    thread_limit: int | None,
    gpu_layers: GpuLayers,
    use_mmap: bool | None,
) -> tuple[list[Tier], list[str]]:
    """The tiers, low to high, as `Ladder.load` describes it, and what the user should know.

    Raises `UserError`.
    """
    headers = [read_header(spec.path) for spec in specs]
    _check_specs(specs)
    require_same_model(headers)
    for spec, header in zip(specs, headers, strict=True):
        _require_trusted(spec, header)
    tiers: list[Tier] = []
    notes: list[str] = []
    with ExitStack() as loaded:
        offloaded = plan(gpu_layers, headers, n_ctx)
        for spec, header, layers in zip(specs, headers, offloaded, strict=True):

            def load(layers: int, spec: TierSpec = spec, header: GgufHeader = header) -> Tier:
                return _load(
                    spec,
                    header,
                    layers,
                    n_ctx=n_ctx,
                    n_threads=n_threads,
                    thread_limit=thread_limit,
                    use_mmap=use_mmap,
                    handoff=len(specs) > 1 and not kv.exact,
                )

            if gpu_layers == AUTO:
                tier, said = with_fewer(load, layers, Need.of(header, n_ctx), name=spec.name)
                notes += said
            else:
                tier = load(layers)
            loaded.callback(tier.close)
            tiers.append(tier)
        require_same_text([tier.model for tier in tiers])
        loaded.pop_all()
    return tiers, notes


def _load(
    spec: TierSpec,
    header: GgufHeader,
    layers: int,
    *,
    n_ctx: int,
    n_threads: int | None,
    thread_limit: int | None,
    use_mmap: bool | None,
    handoff: bool,
) -> Tier:
    mmap = _maps_well(header, layers) if use_mmap is None else use_mmap
    with ExitStack() as loaded:
        model = LlamaModel.load(spec.path, n_gpu_layers=layers, use_mmap=mmap)
        loaded.callback(model.close)
        _check_model(model, n_ctx, handoff=handoff)
        context = LlamaContext(
            model, n_ctx=n_ctx, n_threads=n_threads, thread_limit=thread_limit, max_rows=ROWS
        )
        loaded.pop_all()
    return Tier(spec.name, header.path, model, context, header.size_bytes)


def _maps_well(header: GgufHeader, n_gpu_layers: int) -> bool:
    """Whether a file is better mapped than read: its weights are used as they lie on disk."""
    return n_gpu_layers != 0 or not header.type_names & _REPACKED


def _check_specs(specs: Sequence[TierSpec]) -> None:
    if not specs:
        raise UserError("a ladder needs at least one tier")
    names = [s.name for s in specs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two tiers are called {name!r}; give each tier a name of its own")


def _require_trusted(spec: TierSpec, header: GgufHeader) -> None:
    """Raise `UserError` for a file that is not the promised one, or that llama.cpp dies of."""
    require_promised(spec)
    if not (spec.sha256 and spec.shipped):
        require_tried(header)


def _check_model(model: LlamaModel, n_ctx: int, *, handoff: bool) -> None:
    if not 0 < n_ctx <= model.n_ctx_train:
        raise untrained(n_ctx, model.path.name, model.n_ctx_train)
    if model.is_recurrent:
        raise UserError(
            f"{model.path.name} has recurrent layers, whose cache cannot be cut back to an earlier"
            " token; choose a model with attention in every layer"
        )
    if handoff and model.n_swa > 0:
        raise UserError(
            f"{model.path.name} has sliding-window layers, whose KV cannot be handed over whole:"
            " use --kv exact"
        )
