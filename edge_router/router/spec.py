"""A router as people write it: "entropy:0.8" is the kind entropy with the argument 0.8."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

AUTO: Final = "auto"  # what stands for a ladder's own router
TRAINED: Final = "onnx"  # the kind whose argument is the path of a file
BUDGET: Final = "budget"  # the kind whose argument is a share and another router


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
    def inner(self) -> RouterSpec | None:
        """The router that a budget is kept by; None for every other kind."""
        _, colon, inner = (self.argument or "").partition(":")
        return RouterSpec.parse(inner) if self.kind == BUDGET and colon else None

    def around(self, inner: RouterSpec) -> RouterSpec:
        """The same budget for another router."""
        share = (self.argument or "").partition(":")[0]
        return RouterSpec(BUDGET, f"{share}:{inner}")

    def with_auto(self, auto: RouterSpec) -> RouterSpec:
        """The same with `auto` for "auto", which is a ladder's own router."""
        if self.inner is not None:
            return self.around(self.inner.with_auto(auto.inner or auto))
        return auto if self == RouterSpec(AUTO) else self

    @property
    def file(self) -> Path | None:
        """The file that the router is read from; None for routers that need none."""
        if self.inner is not None:
            return self.inner.file
        return Path(self.argument) if self.kind == TRAINED and self.argument else None

    @property
    def short(self) -> str:
        """The text, but of a path only folder and file: all that has room on a screen."""
        if self.file is None:
            return str(self)
        if self.inner is not None:
            return f"{self.kind}:{(self.argument or '').partition(':')[0]}:{self.inner.short}"
        return f"{self.kind}:{'/'.join(PurePath(self.file).parts[-2:])}"

    def beside(self, folder: Path) -> RouterSpec:
        """The same router where a path counts from `folder`."""
        if self.inner is not None:
            return self.around(self.inner.beside(folder))
        return self if self.file is None else RouterSpec.trained(folder / self.file)
