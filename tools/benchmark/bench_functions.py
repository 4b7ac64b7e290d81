"""Part of the benchmark: the functions in which an extraction spends its time, sampled by py-spy."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import bench_clips
from bench_extraction import NUM_FRAMES, QUICK_FRAMES, copies
from bench_options import Options
from bench_report import Line, Part
from bench_stage_one import make_weights

REMEDY = "py-spy is not installed; pip install 'videotag[bench]'"
_VIDEOS = 4
_FLAGS = ("--subprocesses", "--format=raw", "--rate=100", "--duration=3600")
_SHOWN = 8  # functions; the others are summed
_DECODER = "videotag.media.decode_pool import serve"  # in the command line of a decoder
#: Functions that only wait for another thread or process, which py-spy may take for work.
_WAITING = {
    *("_receive (decode_pool.py)", "serve (decode_pool.py)", "_worker (thread.py)"),
    *("_Child._wait (decode_pool.py)", "Condition.wait (threading.py)", "_answers (bench_child.py)"),
}
_TIMEOUT_SEC = 60


def run(options: Options) -> Part:
    """Measures the percentage of samples by function, over all processes."""
    part = Part("Where a run's time goes: 640x360 to .npy, samples of all processes at work, by py-spy")
    command = py_spy()
    if command is None:
        part.notes.append(f"{REMEDY}.")
        return part
    num_frames = QUICK_FRAMES if options.quick else NUM_FRAMES
    first = options.clip(bench_clips.SMALL[0])
    shared: dict[str, Any] = {"weights": str(make_weights(options)), "num_frames": num_frames, "first": first}
    with (
        tempfile.TemporaryDirectory(dir=options.work_dir) as folder,
        options.child("bench_extraction:Extract", precision="auto", **shared) as child,
    ):
        output = Path(folder) / "samples.txt"
        spy = subprocess.Popen(
            [command, "record", f"--pid={child.pid}", *_FLAGS, f"--output={output}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert spy.stdout
            line = spy.stdout.readline()  # it has started, or says why not
            child.measure(paths=copies([first], _VIDEOS, Path(folder)))
            spy.send_signal(signal.SIGINT)
            said = line + spy.communicate(timeout=_TIMEOUT_SEC)[0]
        finally:
            spy.kill()
            spy.wait()
        if not output.is_file():
            part.notes.append(f"py-spy could not look into the processes: {' '.join(said.split())[:200]}")
            return part
        shares = shares_of(output.read_text(encoding="utf-8", errors="replace"))
    part.lines.append(Line("where", "percent", {name: [share] for name, share in shares}))
    part.notes.append(f"{child.facts['runtime']}; {_VIDEOS} clips of {num_frames} frames each.")
    options.say("functions")
    return part


def py_spy() -> str | None:
    """Path of py-spy, beside this Python or on PATH; None if it is not installed."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.is_file() else shutil.which("py-spy")


def shares_of(samples: str) -> list[tuple[str, float]]:
    """(function, percentage of the samples in which it is innermost), highest first, then "others".

    Args:
        samples: Output of py-spy in format "raw": a stack and a count per line.
    """
    counts: Counter[str] = Counter()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        if function_of(stack) in _WAITING:
            continue
        place = "a decoder" if _DECODER in stack else "the process"
        counts[f"{function_of(stack)}, in {place}"] += int(count)
    total = counts.total() or 1
    shares = [(name, 100 * count / total) for name, count in counts.most_common(_SHOWN)]
    rest = 100 - sum(share for _, share in shares)
    return [*shares, ("others", rest)] if len(counts) > _SHOWN else shares


def function_of(stack: str) -> str:
    """The innermost function of a stack and the name of its file."""
    if "importlib._bootstrap" in stack:
        return "importing modules"
    name, _, place = stack.rpartition(";")[2].partition(" (")
    file = re.sub(r"(:\d+)?\)$", "", place).rpartition("/")[2]
    return f"{name} ({file})"
