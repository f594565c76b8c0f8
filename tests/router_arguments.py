"""An argument for each kind of router, by the word that the help shows in its place."""

from __future__ import annotations

from edge_router.ladders.resolve import find_ladder

ARGUMENTS = {
    "": "",
    "N": ":4",
    "P": ":0.5",
    "T": ":0.5",
    "NAME": ":q8_0",
    "SHARE:ROUTER": ":0.2:entropy:0.5",
    "PATH": f":{find_ladder('household').folder / 'router.onnx'}",
}
