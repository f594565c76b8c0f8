"""The documentation says what the program does: help texts, links, commands and targets."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

from tests.commands import command_paths
from tools import refresh_docs

ROOT = Path(__file__).resolve().parents[2]
PAGES = list(refresh_docs.pages())
OTHERS = [page for page in sorted(ROOT.glob("*.md")) if page not in PAGES]
TOP = {path.split()[0] for path in command_paths() if path}  # commands and their groups
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_help_blocks_are_what_the_commands_print(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text == refresh_docs.refreshed(text), "stale help text: run `make docs`"


def test_every_command_is_documented() -> None:
    documented = {c for page in PAGES for c in refresh_docs.documented(page.read_text("utf-8"))}
    assert documented == set(command_paths())


def test_a_stale_block_is_noticed() -> None:
    stale = "<!-- help: edge-router -->\n```text\nsomething else\n```\n<!-- end help -->"
    assert "something else" not in refresh_docs.refreshed(stale)
    assert "Usage: edge-router" in refresh_docs.refreshed(stale)


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.name)
def test_no_page_shows_the_marks_of_a_merge(page: Path) -> None:
    assert not re.search(r"^(<{7} .*|={7}|>{7} .*)$", page.read_text("utf-8"), re.M)


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.name)
def test_links_into_the_repository_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.name)
def test_files_of_the_code_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:edge_router|train|tui|tools|tests)/[\w./]+)`", page.read_text("utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_what_the_reference_lists_exists() -> None:
    listed = re.findall(r"^::: (\S+)", (ROOT / "docs" / "reference.md").read_text("utf-8"), re.M)
    assert len(listed) > 5
    for name in listed:
        assert pkgutil.resolve_name(name).__doc__, f"{name} says nothing of itself"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_in_python_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each block alone, in an empty folder, and it prints something."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for number, code in enumerate(EXAMPLE.findall(page.read_text("utf-8")), 1):
        if "import edge_router\n" in code:
            exec(compile(code, f"{page.name}, example {number}", "exec"), {"__name__": "example"})
            assert capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    text = page.read_text("utf-8")
    named = re.findall(r"`make (?:[A-Z_]+=\S+ )*([a-z-]+)|^make (?:[A-Z_]+=\S+ )*([a-z-]+)", text)
    assert {a or b for a, b in named} <= targets


def test_readme_is_short_enough_to_be_read() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 220


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.name)
def test_commands_that_are_shown_exist_with_their_options(page: Path) -> None:
    """In blocks, in a line of their own, and in sentences, there without the program's name too."""
    text = re.sub(r"<!-- help:.*?<!-- end help -->", "", page.read_text("utf-8"), flags=re.S)
    block = re.compile(r"^```.*?^```|^ {4}.+?$", re.M | re.S)
    prose, blocks = block.sub("", text), "\n".join(block.findall(text))
    lines = re.findall(r"^ *(?:\w+=\S+ )*(?:\S+/)?edge-router (\w.+)$", blocks, re.M)
    lines += re.findall(r"`(?:\S*/)?edge-router (\w[^`]+)`", prose)
    lines += [
        line for line in re.findall(r"`([a-z][^`]* --[^`]+)`", prose) if line.split()[0] in TOP
    ]
    for line in lines:
        paths = [path for path in command_paths() if path and f"{line} ".startswith(f"{path} ")]
        assert paths, f"edge-router {line}: no such command"
        help_text = refresh_docs.help_text(max(paths, key=len))
        for option in re.findall(r"(?<!\S)--[a-z-]+", line):
            assert option in help_text, f"edge-router {line}: no {option}"
