"""A router as people write it: "entropy:0.8" is the kind entropy with the argument 0.8."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

TRAINED: Final = "onnx"  # the kind whose argument is the path of a file


@dataclass(frozen=True)
class RouterSpec:
    """Which router, and with what. Whether there is such a router is for `registry` to say."""

    kind: str
    argument: str | None = None  # None where no colon stands behind the kind

    @classmethod
    def parse(cls, text: str) -> RouterSpec:
        """Take a text apart at its first colon; `str` puts it together again."""
        kind, colon, argument = text.strip().partition(":")
        return cls(kind, argument if colon else None)

    @classmethod
    def trained(cls, path: Path) -> RouterSpec:
        """The router that lies in a file."""
        return cls(TRAINED, str(path))

    def __str__(self) -> str:
        return self.kind if self.argument is None else f"{self.kind}:{self.argument}"

    @property
    def file(self) -> Path | None:
        """The file that the router is read from; None for routers that need none."""
        return Path(self.argument) if self.kind == TRAINED and self.argument else None

    @property
    def short(self) -> str:
        """The text, but of a path only folder and file: all that has room on a screen."""
        if self.file is None:
            return str(self)
        return f"{self.kind}:{'/'.join(PurePath(self.file).parts[-2:])}"

    def beside(self, folder: Path) -> RouterSpec:
        """The same router where a path counts from `folder`."""
        return self if self.file is None else RouterSpec.trained(folder / self.file)
