"""Traces a network into a Paddle program of two files, from which every conversion starts."""

from __future__ import annotations

from videotag.system.signals import raise_received

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from videotag.errors import lacks_memory
from videotag.runtime.backends import ExportError
from videotag.runtime.trained import TrainedNetwork
from videotag.system.atomic import check_room
from videotag.weights import NETWORK_STEM

logger = logging.getLogger(__name__)

_UNUSED_INPUT = "is not involved in the target_vars"  # Paddle's message
_SLOW_SEC = 20.0  # our own networks are traced within 5 s
PROGRAM_FILES = (f"{NETWORK_STEM}.json", f"{NETWORK_STEM}.pdiparams")


def save_program(trained: TrainedNetwork, folder: Path) -> Path:
    """Writes a network as PROGRAM_FILES, program and weights; returns their path without suffix.

    Raises:
        ExportError: Paddle cannot trace the network.
        OSError: The disk is full.
    """
    from videotag.system.quiet_paddle import paddle

    prefix = folder / NETWORK_STEM
    specs = [paddle.static.InputSpec(list(i.shape), i.dtype, i.name) for i in trained.inputs]
    with warnings.catch_warnings(), _warning_if_slow(trained.name):
        warnings.simplefilter("ignore")  # Paddle's own deprecations while it traces
        try:
            paddle.jit.save(trained.flat_layer(), str(prefix), input_spec=[specs])
        except Exception as error:  # whatever tracing meets in a model's code
            raise_received()
            if lacks_memory(error):
                raise
            check_room(folder)
            if _UNUSED_INPUT in str(error):
                names = ", ".join(spec.name for spec in trained.inputs)
                raise ExportError(
                    f"forward does not use all inputs ({names}); use each, or leave it out of self.inputs"
                ) from error
            text = " ".join(str(error).split())[-300:]
            raise ExportError(f"cannot be traced ({text})") from error
    check_room(folder)  # Paddle does not report a full disk
    return prefix


@contextlib.contextmanager
def _warning_if_slow(name: str) -> Iterator[None]:
    """Context in which a warning is logged after _SLOW_SEC, because tracing may never end."""
    text = (
        "%s: still tracing the network; a loop in its forward is unrolled, so replace a loop over samples or "
        "steps by operations on whole tensors"
    )
    timer = threading.Timer(_SLOW_SEC, logger.warning, (text, name))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
