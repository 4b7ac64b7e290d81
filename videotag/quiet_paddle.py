"""Imports Paddle once, without its start-up chatter and its signal handlers.

Every package that uses Paddle imports this module first. Paddle prints advice on OMP_NUM_THREADS (which
videotag has just set on purpose) and warns of a missing ccache; a user who tags a video needs neither.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
import warnings

os.environ.setdefault("GLOG_minloglevel", "2")  # errors of Paddle's C++ part only

with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import paddle as paddle

# Paddle answers SIGTERM with a C++ traceback; and switching that off forgets the handler of before.
paddle.disable_signal_handler()
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is not None:
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
