"""Converts networks to ONNX with paddle2onnx in a separate process.

paddle2onnx prints to stdout, and an unsupported layer may crash its process. Its compiled module is called
directly, because its Python code would run pip and import Paddle again. It silently drops an LSTM's
sequence_length, which is why our networks do not use it (see videotag.models.sequence).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from videotag.runtime.backends import ExportError, package_version, unsupported_reason
from videotag.runtime.network_cache import cached_file
from videotag.runtime.program import save_program
from videotag.runtime.trained import TrainedNetwork
from videotag.system.atomic import check_room, temporary_folder
from videotag.system.kept_memory import give_back_freed_memory
from videotag.weights import NETWORK_STEM

OPSET = 18  # up to 17, OpenVINO takes ReduceLogSumExp over all axes
ONNX_FILE = f"{NETWORK_STEM}.onnx"
CONVERTER = "paddle2onnx"
_TIMEOUT_SEC = 600
#: argv: paddle2onnx's compiled part, the program's prefix, the output, the opset.
_CHILD = """
import importlib.util, pathlib, sys
library, prefix, output, opset = sys.argv[1:]
spec = importlib.util.spec_from_file_location("paddle2onnx_cpp2py_export", library)
converter = importlib.util.module_from_spec(spec)
spec.loader.exec_module(converter)
upgrade_opset, verbose, check, experimental, optimize, fp16 = True, False, True, True, True, False
data = converter.export(
    prefix + ".json", prefix + ".pdiparams", int(opset), upgrade_opset, verbose, check, experimental,
    optimize, {}, "onnxruntime", "", "", fp16,
)
pathlib.Path(output).write_bytes(data)
"""


def onnx_model(trained: TrainedNetwork) -> bytes:
    """The network as ONNX; see onnx_file."""
    with onnx_file(trained) as path:
        return path.read_bytes()


@contextlib.contextmanager
def onnx_file(trained: TrainedNetwork) -> Iterator[Path]:
    """Context with a file that contains the network as ONNX, from the cache if possible.

    Raises:
        ExportError: The network cannot be exported; the message says why.
    """
    if reason := unsupported_reason(trained.layer, {}):
        raise ExportError(reason)
    with cached_file(onnx_parts(trained), ONNX_FILE, lambda: _convert(trained)) as path:
        yield path


def onnx_parts(trained: TrainedNetwork) -> dict[str, object]:
    """Everything that determines the content of a network's ONNX file, as cache key."""
    from videotag.system.quiet_paddle import paddle

    # Another form of a layer than Paddle's own, so that its code decides the network too.
    scan = hashlib.sha256(Path(__file__).with_name("peephole_scan.py").read_bytes()).hexdigest()
    versions = {"paddle": paddle.__version__, CONVERTER: package_version(CONVERTER) or ""}
    return {"network": trained.digest, "form": "onnx", "opset": OPSET, "scan": scan, **versions}


def _convert(trained: TrainedNetwork) -> bytes:
    from videotag.runtime.peephole_scan import stand_ins, with_scans

    with temporary_folder() as folder:
        with stand_ins(trained.layer) as replaced:
            prefix, output = save_program(trained, folder), folder / ONNX_FILE
        give_back_freed_memory()  # the converter takes five times what the network does
        command = [sys.executable, "-c", _CHILD, _converter_library(), str(prefix), str(output), str(OPSET)]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=os.environ | {"LD_LIBRARY_PATH": _paddle_libraries()},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_SEC,
            )
        except subprocess.TimeoutExpired:
            raise ExportError(f"paddle2onnx gave no answer in {_TIMEOUT_SEC} s") from None
        if done.returncode or not output.is_file() or not output.stat().st_size:
            check_room(folder)
            code = done.returncode
            why = f"ended by {signal.Signals(-code).name}: " if code < 0 else ""
            said = _one_line((done.stderr.strip() or f"exit code {code}").splitlines()[-1])
            raise ExportError(f"paddle2onnx cannot convert it ({why}{said})")
        try:
            return with_scans(output.read_bytes(), replaced)
        except LookupError as error:
            raise ExportError(str(error)) from error


def _converter_library() -> str:
    """The path of paddle2onnx's compiled module; the package is not imported."""
    spec = importlib.util.find_spec("paddle2onnx")
    places = spec.submodule_search_locations or [] if spec else []
    for place in places:
        for found in sorted(Path(place).glob("paddle2onnx_cpp2py_export*.so")):
            return str(found)
    raise ExportError("paddle2onnx is not installed (pip install 'videotag[onnx]')")


def _paddle_libraries() -> str:
    """The LD_LIBRARY_PATH with Paddle's compiled libraries for paddle2onnx, before the user's own."""
    from videotag.system.quiet_paddle import paddle

    root = Path(paddle.__file__).parent
    own = [str(root / "base"), str(root / "libs"), os.environ.get("LD_LIBRARY_PATH", "")]
    return os.pathsep.join(place for place in own if place)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
