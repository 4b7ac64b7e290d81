"""The networks, one file each; every file registers its model with videotag.registry."""

from __future__ import annotations

import importlib
import pkgutil

from videotag.system.quiet_paddle import paddle as paddle

from videotag.inputs import load_readers


def load_models() -> None:
    """Imports the files of all models and readers, so that both are registered; cheap when called again."""
    load_readers()
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        importlib.import_module(module.name)
