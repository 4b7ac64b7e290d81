"""videotag: video files in, tags with probabilities out.

    from videotag import Tagger
    result = Tagger.load().tag("any.mp4")

Importing this package loads neither Paddle nor a model; Tagger and TagResult are imported on first use.
"""

import _signal  # a built-in module; importing even __future__ would access the disk

_waiting = _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGINT, _signal.SIGTERM})
try:  # before any other import, as a signal may arrive at any moment
    from videotag.system import signals

    signals.install_handlers()
finally:
    _signal.pthread_sigmask(_signal.SIG_SETMASK, _waiting)

from typing import TYPE_CHECKING, Any  # noqa: E402

from videotag.system.cores import use_whole_cpu  # noqa: E402

if TYPE_CHECKING:
    from videotag.inference.tagger import Tagger, TagResult

__all__ = ["TagResult", "Tagger", "__version__"]
__version__ = "0.1.0"


use_whole_cpu()  # must run before Paddle is imported


def __getattr__(name: str) -> Any:
    if name in ("Tagger", "TagResult"):
        from videotag.inference import tagger

        return getattr(tagger, name)
    raise AttributeError(f"module 'videotag' has no attribute {name!r}")
