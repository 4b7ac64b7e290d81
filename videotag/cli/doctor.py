"""Checks which parts of the installation work, and prints how to fix those that do not.

Parts that could crash the process (Paddle, FFmpeg) are checked in separate processes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import videotag
from videotag.cli.arguments import json_text, show
from videotag.errors import EXIT_FAILURES, EXIT_OK, OutputError
from videotag.safe_text import escaped
from videotag.system.atomic import temporary_folder
from videotag.system.cores import MKL_VARIABLE, MKL_VARIABLES, THREADS_VARIABLE, mkl_cpu_type, num_cores
from videotag.system.memory_limit import memory_limit
from videotag.system.quiet_runtimes import ONNXRUNTIME_VARIABLE

if TYPE_CHECKING:
    from videotag.weights import NamedWeights

SUMMARY = "check the installation, and suggest fixes"
_DEVELOPERS_EXTRA = "dev"
_PROBE_TIMEOUT_SEC = 120
_MIN_FREE_BYTES = 1 << 30  # the largest named weights take about half of it


@dataclass(frozen=True)
class Check:
    """A check of one part of the installation.

    Attributes:
        name: Displayed name.
        run: Function that returns its findings, or raises an error if the part does not work.
        remedy: Command or advice that fixes the part.
        needed: Whether videotag needs the part.
    """

    name: str
    run: Callable[[], str]
    remedy: str
    needed: bool = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `videotag doctor`."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a line per check")


def run(args: argparse.Namespace) -> int:
    """Prints all findings; returns 1 if a needed part does not work."""
    findings = []
    for group in (_installed, _machine, _backends, _named_weights, _folders):
        for check in _checks_of(group):
            findings.append(_finding(check))
            if not args.json:
                show(_line(findings[-1]))
    healthy = all(finding["works"] for finding in findings if finding["needed"])
    if args.json:
        show(json_text({"healthy": healthy, "checks": findings}, indent=2))
    else:
        show("all needed parts work" if healthy else "some needed parts do not work, see FAILED above")
    return EXIT_OK if healthy else EXIT_FAILURES


def probe_gpus() -> str:
    """The number of GPUs that Paddle can use, and the selected device."""
    from videotag.runtime.device import num_gpus, select_device

    found = num_gpus()
    return f"{found or 'none'}; networks run on: {select_device('auto')}"


def probe_telemetry() -> str:
    """Checks that the telemetry of OpenVINO and ONNX Runtime is off; must run in a separate process.

    Imports both as videotag does, with an empty home folder.

    Raises:
        RuntimeError: One of them wrote to the home folder, where telemetry stores its id, or OpenVINO's
            telemetry module was imported.
    """
    from videotag.system.quiet_runtimes import QUIET_IMPORTS

    imported = []
    with tempfile.TemporaryDirectory(prefix="videotag-") as home:
        os.environ["HOME"] = home
        os.environ.pop("XDG_CACHE_HOME", None)
        for package, import_quietly in QUIET_IMPORTS.items():
            with contextlib.suppress(ImportError):  # a package that is not installed sends nothing
                import_quietly()
                imported.append(f"{package} {importlib.metadata.version(package)}")
        written = sorted(path.name for path in Path(home).rglob("*"))
    names = " and ".join(imported)
    if written or sys.modules.get("openvino_telemetry"):
        raise RuntimeError(f"not off in {names}; written to the home folder: {written or 'nothing'}")
    return f"nothing is sent; off in {names}" if names else "nothing is sent"


def probe_choice() -> str:
    """The backend and precision that "auto" selects for most networks on this machine."""
    from videotag.runtime import backends
    from videotag.runtime.device import select_device

    device = select_device("auto")
    name = next(backends.candidates("auto", "f32", device=device))
    flag = backends.bf16_instructions() if device == "cpu" else None
    precision = f"bf16 ({flag}) if results stay close to f32" if flag else "f32"
    return f"{name} {backends.get_backend(name).version()}, {precision}; checked for each network"


def probe_backend(name: str) -> str:
    """Compiles and runs a tiny network in a backend, and compares its outputs with those of its layers.

    Args:
        name: Name of the backend.

    Raises:
        ArithmeticError: The outputs differ.
        LookupError: The backend is not installed.
    """
    from videotag.system.quiet_paddle import paddle

    import numpy as np

    from videotag.registry import ArraySpec
    from videotag.runtime.agreement import relative_error
    from videotag.runtime.backends import compile_network, get_backend
    from videotag.runtime.device import select_device
    from videotag.runtime.trained import TrainedNetwork

    class Tiny(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.layers = paddle.nn.Sequential(
                paddle.nn.Conv2D(3, 4, 3), paddle.nn.ReLU(), paddle.nn.Flatten()
            )

        def forward(self, inputs: Any) -> Any:
            return {"y": self.layers(inputs["x"])}

    backend = get_backend(name)
    version = backend.version()
    if version is None:
        raise LookupError("not installed")
    device = select_device("auto") if backend.gpu_precisions else "cpu"
    x = {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    tiny = TrainedNetwork(Tiny(), (ArraySpec("x", (None, 3, 8, 8)),), ("y",), "tiny", "a tiny network")
    with _empty_cache():  # a cached network would not test the compiler
        start_sec = time.perf_counter()
        compiled = compile_network(tiny, backend=name, device=device)(x)
        took_sec = time.perf_counter() - start_sec
    # A GPU may compute convolutions in TF32, which has a 10-bit mantissa.
    if relative_error(tiny.run_layers(x), compiled) > (1e-5 if device == "cpu" else 1e-2):
        raise ArithmeticError("the outputs of the compiled network differ from those of its layers")
    return f"{version}, compiled and ran in {took_sec:.2f} s on {device}"


@contextlib.contextmanager
def _empty_cache() -> Iterator[None]:
    """Context with a temporary, empty cache folder."""
    before = os.environ.get("VIDEOTAG_CACHE")
    with temporary_folder() as folder:
        os.environ["VIDEOTAG_CACHE"] = str(folder)
        try:
            yield
        finally:
            os.environ.pop("VIDEOTAG_CACHE")
            if before is not None:
                os.environ["VIDEOTAG_CACHE"] = before


def probe_video() -> str:
    """Writes a tiny clip to a temporary folder and decodes it.

    Raises:
        ArithmeticError: The decoded frames differ from the written ones.
    """
    import av
    import numpy as np

    from videotag.media.video import FrameReader
    from videotag.media.writer import write_video

    levels = np.arange(20, 220, 25, dtype=np.uint8)
    with temporary_folder() as folder:
        path = folder / "clip.mp4"
        write_video(path, [np.full((64, 64, 3), level, np.uint8) for level in levels], fps=8)
        means = [frame.image.mean() for frame in FrameReader(path, len(levels))]
    if len(means) != len(levels) or np.abs(np.array(means) - levels).max() > 5:
        raise ArithmeticError(f"decoded frames of brightness {np.round(means)}, expected {levels}")
    return f"H.264 written and decoded, {len(means)} frames; FFmpeg's libavcodec {_version(av, 'libavcodec')}"


def _installed() -> Iterator[Check]:
    yield Check("Python", lambda: f"{platform.python_version()}, {platform.platform()}", "")
    yield Check("videotag", lambda: videotag.__version__, "")
    version = partial(importlib.metadata.version, "videotag")
    yield Check("videotag as a package", version, "pip install -e .", needed=False)
    for requirement in _requirements():
        text, _, marker = requirement.partition(";")
        match = re.match(r"[\w.-]+", text)
        extra = re.search(r"extra == ['\"]([\w.-]+)['\"]", marker)
        if match is None or (extra and extra[1] == _DEVELOPERS_EXTRA):
            continue
        name = match[0]
        yield Check(
            f"{name} (extra {extra[1]})" if extra else name,
            partial(_installed_version, name),
            f"pip install 'videotag[{extra[1]}]'" if extra else f"pip install '{text.strip()}'",
            needed=extra is None,
        )


def _machine() -> Iterator[Check]:
    yield Check("CPU cores", _cores, f"unset {THREADS_VARIABLE}")
    yield Check("memory", _memory, "only known on Linux", needed=False)
    remedy = f"{_reinstall('paddlepaddle')} (with a GPU: the first lines of requirements-gpu.txt)"
    yield Check("GPUs", partial(_apart, "probe_gpus"), remedy)


def _backends() -> Iterator[Check]:
    from videotag.runtime.backends import list_backends

    for backend in list_backends():
        needed = backend.is_fallback
        remedy = _reinstall(backend.runtime_package) if needed else backend.install_command()
        probe = partial(_apart, "probe_backend", backend.name)
        yield Check(f"backend {backend.name}", probe, remedy, needed=needed)
    yield Check("backend auto selects", partial(_apart, "probe_choice"), _reinstall("paddlepaddle"))
    remedy = f"pip uninstall openvino-telemetry; export {ONNXRUNTIME_VARIABLE}=1"
    yield Check("telemetry", partial(_apart, "probe_telemetry"), remedy)
    yield Check("video files", partial(_apart, "probe_video"), _reinstall("av"))


def _named_weights() -> Iterator[Check]:
    from videotag.weights import DEFAULT_EXTRACTOR, named_weights

    for weights in named_weights().values():
        needed = weights.name == DEFAULT_EXTRACTOR
        yield Check(f"weights {weights.name}", partial(_present, weights), weights.remedy, needed=needed)


def _folders() -> Iterator[Check]:
    remedy = "free some space, or set VIDEOTAG_CACHE to a writable folder"
    yield Check("cache folder", _cache, remedy)
    yield Check("working folder", lambda: _space(Path.cwd()), "work in another folder", needed=False)


def _checks_of(group: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The checks of a group; if the group itself fails, a failing check, so that other groups still run."""
    try:
        yield from group()
    except Exception as error:
        name = group.__name__.strip("_").replace("_", " ")
        yield Check(name, partial(_raise, error), "correct it, or reinstall videotag: pip install -e .")


def _raise(error: Exception) -> str:
    raise error


def _finding(check: Check) -> dict[str, Any]:
    try:
        detail, works = check.run(), True
    except importlib.metadata.PackageNotFoundError:
        detail, works = "not installed", False
    except Exception as error:
        detail, works = escaped(" ".join(str(error).split())) or type(error).__name__, False
    remedy = None if works else check.remedy
    return {"name": check.name, "works": works, "needed": check.needed, "detail": detail, "remedy": remedy}


def _line(finding: dict[str, Any]) -> str:
    mark = "ok" if finding["works"] else "FAILED" if finding["needed"] else "missing"
    remedy = f"; {finding['remedy']}" if finding["remedy"] else ""
    return f"{mark:<8} {finding['name']:<40} {finding['detail']}{remedy}"


def _apart(probe: str, *texts: str) -> str:
    """Calls a function of this file in a separate process and returns its text.

    Args:
        probe: Name of the function.
        texts: Arguments of the function.

    Raises:
        RuntimeError: The function failed, crashed, or timed out; the message says which.
    """
    # The same import path, but without the working folder, which may contain an av.py.
    places = os.pathsep.join(str(Path(place).absolute()) for place in sys.path if place)
    with temporary_folder() as folder:
        command = [sys.executable, "-c", f"from videotag.cli import doctor; print(doctor.{probe}(*{texts}))"]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=os.environ | {"PYTHONPATH": places},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PROBE_TIMEOUT_SEC,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"no answer within {_PROBE_TIMEOUT_SEC} s") from None
    if done.returncode < 0:
        raise RuntimeError(f"the process was killed by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    return done.stdout.strip().splitlines()[-1]


def _requirements() -> list[str]:
    """The declared requirements of videotag; empty for a checkout that is not installed."""
    try:
        return importlib.metadata.requires("videotag") or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _installed_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version(f"{name}-gpu")  # the package of requirements-gpu.txt


def _reinstall(package: str) -> str:
    wanted = next((r.strip() for r in _requirements() if re.match(rf"{package}\b(?!-)", r)), package)
    return f"pip install --force-reinstall '{wanted}'"


def _version(av: Any, library: str) -> str:
    return ".".join(map(str, av.library_versions[library]))


def _cores() -> str:
    num_cores()  # raises an error if the variable is not a number
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    names = [name for name in (THREADS_VARIABLE, *MKL_VARIABLES) if os.environ.get(name)]
    findings = [f"{name} is {os.environ[name]}" for name in names]
    best = mkl_cpu_type()
    if best is not None and [os.environ.get(name, "") for name in MKL_VARIABLES] != [best, "", ""]:
        findings.append(f"unset them, and videotag sets {MKL_VARIABLE}={best}, which is faster here")
    return "; ".join([f"{usable} usable of {os.cpu_count()}", *findings])


def _memory() -> str:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    free = f"{_gb(sizes['MemAvailable'])} free of {_gb(sizes['MemTotal'])}"
    limit = memory_limit()
    return f"{free}, this container may use {_gb(limit)}" if limit and limit < sizes["MemTotal"] else free


def _present(weights: NamedWeights) -> str:
    path = weights.present()
    if path is None:
        raise FileNotFoundError("not downloaded")
    return f"{path.stat().st_size / 1e6:.1f} MB{'' if weights.verified else ', not verified by this project'}"


def _cache() -> str:
    from videotag.weights import cache_dir

    return _space(cache_dir())


def _space(folder: Path) -> str:
    """The free space at a folder, or at its nearest existing parent; checks that it is writable.

    Raises:
        OSError: No file can be written.
        OutputError: There is not enough space for weights.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    with tempfile.TemporaryFile(dir=there):
        free = shutil.disk_usage(there).free
    if free < _MIN_FREE_BYTES:
        raise OutputError(f"{folder}: {_gb(free)} free, expected {_gb(_MIN_FREE_BYTES)}")
    return f"{folder}, {_gb(free)} free"


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
