"""What all tests share: one thread each for the numeric libraries, so that they stay quick and
repeatable on a busy machine. It must happen before any of those is imported for the first time.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
