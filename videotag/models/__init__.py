"""The networks, one file each; every file registers its model with videotag.registry."""

from __future__ import annotations

import importlib
import pkgutil

from videotag.system.quiet_paddle import paddle as paddle


def load_models() -> None:
    """Imports every model file, so that the registry is complete; cheap when called again."""
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        importlib.import_module(module.name)
