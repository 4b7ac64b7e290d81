"""videotag: video files in, tags with probabilities out.

    from videotag import Tagger
    result = Tagger.load().tag("any.mp4")

Importing this package loads neither Paddle nor a model; Tagger and TagResult are fetched on first use.
"""

import _signal  # without a look at the disk, as even __future__ takes one

_waiting = _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGINT, _signal.SIGTERM})
try:  # before anything else is imported: a signal may come at any moment
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


use_whole_cpu()  # the other piece of work done at import time: it must come before Paddle's import


def __getattr__(name: str) -> Any:
    if name in ("Tagger", "TagResult"):
        from videotag.inference import tagger

        return getattr(tagger, name)
    raise AttributeError(f"module 'videotag' has no attribute {name!r}")
