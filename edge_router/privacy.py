"""Nothing about the user is sent or recorded: libraries that would do so are set not to.

onnxruntime's Linux builds write a device id and a queue of events into the home and look up
their maker's host; Hugging Face's libraries put details of the machine into their requests. Both
read the environment when they are imported, so it is set when `edge_router` itself is imported,
before any of them. Child processes inherit it. A setting of the user's does not switch it on
again.
"""

from __future__ import annotations

import os
from typing import Final

SWITCHES: Final = (
    "ORT_DISABLE_TELEMETRY",  # onnxruntime
    "HF_HUB_DISABLE_TELEMETRY",  # huggingface_hub, transformers, tokenizers
    "DO_NOT_TRACK",  # consoledonottrack.com: whatever else asks
)


def send_nothing() -> None:
    """Switch telemetry off, for this process and its children."""
    for switch in SWITCHES:
        os.environ[switch] = "1"
