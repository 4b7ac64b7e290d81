"""Networks leave a process's signals as they are."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import faulthandler, os, signal, sys, threading
faulthandler.enable()  # which makes an alternate signal stack
import numpy as np
from videotag.system.quiet_paddle import paddle
from videotag.runtime.backends import compile_network
from videotag.registry import ArraySpec
from videotag.runtime.trained import TrainedNetwork

class Model(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.layer = paddle.nn.Linear(3, 2)

    def forward(self, inputs):
        return {"y": self.layer(inputs["x"])}

signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
trained = TrainedNetwork(Model(), (ArraySpec("x", (None, 3)),), ("y",), "digest", "Linear")
network = compile_network(trained, backend="openvino")
network({"x": np.ones((1, 3), np.float32)})
held = [network]
del network
thread = threading.Thread(target=held.clear)  # whose signal stack OpenVINO would put back, not this one's
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_after_the_last_openvino_network_is_gone_is_python_s():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr[-500:]


SWALLOWS = """
import os, signal, time
from videotag.runtime.backends import ExportError, wrap_backend_errors
from videotag.system.signals import exit_with, run_with_signals

def work():
    try:
        with wrap_backend_errors():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            except BaseException:
                raise ValueError("of a library") from None
    except ExportError:
        print("the next backend")
    return 0

exit_with(run_with_signals("videotag", work, lambda error: 70))
"""


def test_a_signal_that_a_library_turns_into_an_error_of_its_own_ends_the_program():
    done = subprocess.run([sys.executable, "-c", SWALLOWS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (143, ""), done.stderr[-500:]
