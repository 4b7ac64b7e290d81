"""videotag: video files in, tags with probabilities out.

    from videotag import Tagger
    result = Tagger.load().tag("any.mp4")

Importing this package loads neither Paddle nor a model; Tagger and TagResult are fetched on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from videotag.cores import use_whole_cpu

if TYPE_CHECKING:
    from videotag.tagger import Tagger, TagResult

__all__ = ["TagResult", "Tagger", "__version__"]
__version__ = "0.1.0"


use_whole_cpu()  # the one piece of work done at import time: it must come before Paddle's import


def __getattr__(name: str) -> Any:
    if name in ("Tagger", "TagResult"):
        from videotag import tagger

        return getattr(tagger, name)
    raise AttributeError(f"module 'videotag' has no attribute {name!r}")
