"""Imports OpenVINO and ONNX Runtime with their telemetry disabled.

No other module imports them (tests/test_layers.py). What they would do by default, on Linux:

    openvino      Through the package openvino_telemetry, `import openvino` writes an id below ~/intel and
                  sends an event to Google Analytics. Its documented switch, `opt_in_out --opt_out`, writes
                  there too and reports the choice. Without that package OpenVINO uses a stub that does
                  nothing.
    onnxruntime   From 1.29 on, `import onnxruntime` writes an id below ~/.cache/Microsoft, and a process that
                  runs for some seconds sends it to Microsoft. ORT_DISABLE_TELEMETRY=1, set before the
                  import, prevents both (Privacy.md in that package).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

ONNXRUNTIME_VARIABLE = "ORT_DISABLE_TELEMETRY"
_OPENVINO_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """The module openvino, imported so that it does not find openvino_telemetry.

    openvino_telemetry stays hidden for the rest of the process, since OpenVINO's tools import it again when
    used. If the calling program has already imported openvino, nothing changes.
    """
    if "openvino" not in sys.modules:
        cast("dict[str, Any]", sys.modules)[_OPENVINO_TELEMETRY] = None  # importing it raises ImportError
    import openvino

    return openvino


def import_onnxruntime() -> Any:
    """The module onnxruntime, which collects no telemetry.

    If the calling program has already imported it, it collects nothing more but keeps its first event.
    """
    os.environ[ONNXRUNTIME_VARIABLE] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


#: Package -> function that imports it without telemetry.
QUIET_IMPORTS: Mapping[str, Callable[[], Any]] = {
    "openvino": import_openvino,
    "onnxruntime": import_onnxruntime,
}
