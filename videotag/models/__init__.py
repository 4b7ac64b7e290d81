"""Networks, one per file; each file registers its model with videotag.registry."""

from __future__ import annotations

import importlib
import pkgutil

from videotag.system.quiet_paddle import paddle as paddle

from videotag.inputs import load_readers


def load_models() -> None:
    """Imports the modules of all models and readers, which registers them; repeated calls are cheap."""
    load_readers()
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        importlib.import_module(module.name)
