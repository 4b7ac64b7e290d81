"""One file per kind of input: from a field of a sample, such as a path, to the arrays that a model reads.

reader.py defines the interface of a reader. features.py reads feature files; frames.py reads videos and
folders of frames, which frame_augment.py augments in training. Nothing here imports Paddle.
"""

from __future__ import annotations

import importlib
import pkgutil

from videotag.plugins import load_installed


def load_readers() -> None:
    """Imports every module of this package and all installed plugins, which registers their readers."""
    load_installed()
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        importlib.import_module(module.name)
