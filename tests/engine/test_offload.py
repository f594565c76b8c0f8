"""How many layers go to a GPU: what fits, the low tier first; none in a build without one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.engine import tier_sizes
from edge_router.engine.gguf_file import read_header
from edge_router.engine.ladder import Ladder, TierSpec
from edge_router.engine.library import gpu_memory, offloads
from edge_router.engine.llama_model import LlamaModel
from edge_router.engine.tier_sizes import ALL, Need, layers_that_fit, plan, with_fewer
from edge_router.engine.tier_spec import AUTO
from edge_router.errors import UserError
from tests.engine_fixtures import LadderMaker, make_ladder, tiny_paths

__all__ = ["make_ladder", "tiny_paths"]

GB = 10**9
LOW, HIGH = Need(28, 1 * GB, GB // 2), Need(28, 2 * GB, GB // 2)


def test_everything_goes_where_everything_fits() -> None:
    assert layers_that_fit([LOW, HIGH], 24 * GB) == [ALL, ALL]


def test_where_one_tier_fits_it_is_the_low_one() -> None:
    low, high = layers_that_fit([LOW, HIGH], 3 * GB)
    assert low == ALL
    assert 0 < high < HIGH.layers


def test_a_device_without_room_gets_nothing() -> None:
    assert layers_that_fit([LOW, HIGH], 10**8) == [0, 0]


def test_what_does_not_tell_its_memory_is_tried_in_full() -> None:
    assert layers_that_fit([LOW, HIGH], None) == [ALL, ALL]


needs = st.builds(Need, st.integers(1, 100), st.integers(1, 100 * GB), st.integers(0, 10 * GB))


@given(st.lists(needs, min_size=1, max_size=4), st.integers(0, 200 * GB))
def test_no_plan_takes_more_than_is_free(tiers: list[Need], free: int) -> None:
    layers = layers_that_fit(tiers, free)
    assert sum(need.taken(n) for need, n in zip(tiers, layers, strict=True)) <= free + len(tiers)
    assert all(n == ALL or 0 <= n <= need.layers for need, n in zip(tiers, layers, strict=True))


@given(needs, st.integers(0, 100 * GB), st.integers(0, 100 * GB))
def test_more_memory_never_means_fewer_layers(need: Need, free: int, more: int) -> None:
    def share(n: int) -> int:
        return need.layers + 1 if n == ALL else n

    assert share(need.fitting(free + more)) >= share(need.fitting(free))


def test_a_build_for_cpus_offloads_nothing_whatever_is_asked(
    make_ladder: LadderMaker, tiny_paths: dict[str, Path]
) -> None:
    if offloads():
        pytest.skip("this build has a GPU")
    headers = [read_header(tiny_paths["q8_0"])] * 2
    assert plan(AUTO, headers, 512) == plan(-1, headers, 512) == plan(7, headers, 512) == [0, 0]
    assert gpu_memory() == 0
    ladder = make_ladder("q4_k_m", "q8_0")
    assert all(tier.model.on_cpu for tier in ladder.tiers)
    assert not ladder.take_notes()


def test_a_number_is_that_number_for_every_tier(
    tiny_paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tier_sizes, "offloads", lambda: True)
    headers = [read_header(tiny_paths[name]) for name in ("q4_k_m", "q8_0")]
    assert plan(1, headers, 512) == [1, 1]
    assert plan(-1, headers, 512) == [ALL, ALL]
    monkeypatch.setattr(tier_sizes, "gpu_memory", lambda: 10**8)
    assert plan(AUTO, headers, 512) == [0, 0]
    monkeypatch.setattr(tier_sizes, "gpu_memory", lambda: 10**12)
    assert plan(AUTO, headers, 512) == [ALL, ALL]


def test_a_device_that_refuses_gets_fewer_and_the_user_is_told(
    tiny_paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real loader, in a process whose device takes one layer of the low tier and no more."""
    tried: list[int] = []
    real = LlamaModel.load

    def load(path: Path, *, n_gpu_layers: int, use_mmap: bool) -> LlamaModel:
        tried.append(n_gpu_layers)
        if n_gpu_layers == ALL or (n_gpu_layers and path == tiny_paths["q8_0"]):
            raise UserError("out of memory")
        return real(path, n_gpu_layers=n_gpu_layers, use_mmap=use_mmap)

    monkeypatch.setattr(tier_sizes, "offloads", lambda: True)
    monkeypatch.setattr(tier_sizes, "gpu_memory", lambda: None)
    monkeypatch.setattr(LlamaModel, "load", load)
    specs = [TierSpec(name, tiny_paths[name]) for name in ("q4_k_m", "q8_0")]
    with Ladder.load(specs, n_ctx=512, n_threads=1) as ladder:
        assert tried == [ALL, 1, ALL, 1, 0]
        first, second = ladder.take_notes()
        assert "q4_k_m has 1 of its 2 layers on the GPU" in first
        assert "q8_0 has none of its layers on the GPU" in second
        assert not ladder.take_notes()
        assert ladder.prefill([1, 2, 3]).new_tokens == 3
    with pytest.raises(UserError, match="out of memory"):
        Ladder.load(specs, n_ctx=512, n_threads=1, gpu_layers=-1)


def test_what_fails_without_a_device_as_well_is_the_users_to_know() -> None:
    def load(layers: int) -> None:
        raise UserError("the file is damaged")

    with pytest.raises(UserError, match="damaged"):
        with_fewer(load, ALL, LOW, name="low")
