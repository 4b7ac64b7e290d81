"""videotag: video files in, tags with probabilities out.

    from videotag import Tagger
    result = Tagger.load().tag("any.mp4")

Importing this package loads neither Paddle nor a model; Tagger and TagResult are fetched on first use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videotag.tagger import Tagger, TagResult

__all__ = ["TagResult", "Tagger", "__version__"]
__version__ = "0.1.0"


def _use_all_cores() -> None:
    """Sets OMP_NUM_THREADS to the cores this process may use, unless the user has set it.

    The one piece of work done at import time: Paddle reads the variable while it is imported, and
    takes a single thread when it is unset.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(cores))


_use_all_cores()


def __getattr__(name: str) -> Any:
    if name in ("Tagger", "TagResult"):
        from videotag import tagger

        return getattr(tagger, name)
    raise AttributeError(f"module 'videotag' has no attribute {name!r}")
