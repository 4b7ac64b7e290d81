"""One file per kind of input: from a field of a sample, such as a path, to the arrays that a model reads.

reader.py says what a reader promises. features.py reads feature files; frames.py reads videos and folders of
frames, which frame_augment.py varies in training. No Paddle here.
"""

from __future__ import annotations

import importlib
import pkgutil

from videotag.plugins import load_installed


def load_readers() -> None:
    """Imports every file of this room and installed plugins, so that all readers are registered."""
    load_installed()
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        importlib.import_module(module.name)
