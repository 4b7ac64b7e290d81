"""Imports Paddle without its start-up messages and signal handlers.

Every module that needs Paddle at import time imports it from here, before any other part of Paddle (ruff's
section "quiet-paddle"). Paddle prints advice on OMP_NUM_THREADS, which videotag has just set on purpose, and
warns about a missing ccache; a user who tags a video needs neither.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
import warnings

os.environ.setdefault("GLOG_minloglevel", "2")  # Paddle's C++ code logs errors only

# Blocked during the import: a signal in the middle of it would surface as an ImportError, or reach Paddle's
# own handler, which prints a C++ traceback.
_previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
try:
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import paddle as paddle

    # disable_signal_handler also removes the handler installed before Paddle.
    paddle.disable_signal_handler()
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is not None:
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, _previous_mask)

# Training batch norms raise this warning once per process.
warnings.filterwarnings("ignore", "When training, we now always track", UserWarning)
