"""Imports Paddle once, without its start-up chatter and its signal handlers.

Every module that uses Paddle when it is imported takes it from here, before anything else of Paddle's (ruff's
section "quiet-paddle"). Paddle prints advice on OMP_NUM_THREADS (which videotag has just set on purpose) and
warns of a missing ccache; a user who tags a video needs neither.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
import warnings

os.environ.setdefault("GLOG_minloglevel", "2")  # errors of Paddle's C++ part only

# A signal in the middle of the import would end it as an ImportError, or meet Paddle's own handler, which
# prints a C++ traceback: both wait until it is done.
_waiting = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
try:
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import paddle as paddle

    # Switching Paddle's handlers off forgets the handler of before.
    paddle.disable_signal_handler()
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is not None:
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, _waiting)

# Said once per process by every batch norm that trains.
warnings.filterwarnings("ignore", "When training, we now always track", UserWarning)
