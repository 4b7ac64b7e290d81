"""What is done with models: train, evaluate, predict, extract.

Importing a module of this room loads Paddle only where it computes in it, so that an export runs without.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "paddle":
        from videotag.quiet_paddle import paddle

        return paddle
    raise AttributeError(f"module 'videotag.engine' has no attribute {name!r}")
