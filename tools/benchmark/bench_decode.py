"""Part of the benchmark: decoding 300 frames of a video."""

from __future__ import annotations

import time
from typing import Any

import baseline
from bench_child import Child
from bench_options import BASELINE, Options, clips_of, measures_of
from bench_report import Line, Part, take_turns

from videotag.media.decode_pool import DecodePool
from videotag.media.video import FrameReader
from videotag.system.cores import num_cores

NUM_FRAMES = 300
HERE, POOL = "videotag, in the process", "videotag, in a child process"


def run(options: Options) -> Part:
    """Measures both of videotag's readers against the baseline, for every clip."""
    part = Part("Decoding: 300 frames of a video, scaled and cut to 224x224, as bytes")
    specs = {HERE: "bench_decode:InProcess", POOL: "bench_decode:InChild"}
    if baseline.has_opencv():
        specs = {BASELINE: "baseline:Decode", **specs}
    else:
        part.notes.append(f"{baseline.REMEDY}.")
    with options.children(specs) as children:
        for text, path in clips_of(options):
            part.lines.append(_line(text, path, children, options))
    return part


def _line(text: str, path: str, children: dict[str, Child], options: Options) -> Line:
    measures = measures_of(children, "seconds", path=path, num_frames=NUM_FRAMES)
    take_turns(measures, 1)  # the file and what decodes it are warm
    rounds = take_turns(measures, options.num_rounds(cheap=True))
    options.say(f"decode {text}")
    return Line(text, "seconds", rounds, reference=BASELINE)


class InProcess:
    """A contestant: FrameReader."""

    def measure(self, path: str, num_frames: int) -> dict[str, Any]:
        """Seconds for the frames of a video."""
        started = time.perf_counter()
        reader = FrameReader(path, num_frames, crop_px=baseline.CROP_PX, num_threads=num_cores())
        count = sum(frame.repeats for frame in reader)
        return {"seconds": time.perf_counter() - started, "frames": count}


class InChild:
    """A contestant: DecodePool, as extraction uses it."""

    def __init__(self) -> None:
        self._pool = DecodePool()

    def measure(self, path: str, num_frames: int) -> dict[str, Any]:
        """Seconds for the frames of a video."""
        started = time.perf_counter()
        reader = self._pool.reader(
            path, num_frames=num_frames, crop_px=baseline.CROP_PX, num_threads=num_cores()
        )
        count = sum(frame.repeats for frame in reader)
        return {"seconds": time.perf_counter() - started, "frames": count}
