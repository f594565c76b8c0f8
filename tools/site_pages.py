"""Which files the documentation's site is made of: a hook of mkdocs, named in mkdocs.yml.

README.md, docs/ and the models' cards keep their places relative to each
other, so a link between them leads the same way in a checkout and on the site.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).resolve().parent.parent
PATTERNS: Final = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/**/*.md",
    "docs/**/*.svg",
    "models/*/*.md",
    "models/*/*.png",
    "models/*/*.jsonl",
    "models/*/recipe.toml",
    "examples/*.jsonl",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The site's files: those of the repository in the place of docs/ alone, and the theme's."""
    kept = [file for file in files if file.src_dir != config.docs_dir]
    pages = sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern)})
    return Files([*kept, *(_file(path, config) for path in pages)])


def _file(path: Path, config: MkDocsConfig) -> File:
    where = path.relative_to(ROOT).as_posix()
    return File(where, str(ROOT), config.site_dir, config.use_directory_urls)
