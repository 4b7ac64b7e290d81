"""Imports Paddle once without its start-up chatter.

Every package that uses Paddle imports this module first. Paddle prints advice on OMP_NUM_THREADS (which
videotag has just set on purpose) and warns of a missing ccache; a user who tags a video needs neither.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings

os.environ.setdefault("GLOG_minloglevel", "2")  # errors of Paddle's C++ part only

with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import paddle as paddle
