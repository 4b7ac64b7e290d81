"""Part of the benchmark: videos -> features on disk, end to end.

videotag runs the function behind `videotag extract` in a process that is already up; starting is reported
separately. Decoding alone and the network alone are measured on the same videos with the same code.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import baseline
import bench_clips
from bench_child import Child
from bench_options import BASELINE, BASELINE_WITH_MKL, MKL_NOTE, Options, measures_of, own_videos
from bench_report import Line, Part, take_turns
from bench_stage_one import make_weights, open_extractor
from process_family import cpu_sec, peak_family_mb

from videotag.system.cores import mkl_cpu_type

NUM_FRAMES, QUICK_FRAMES = 300, 16
AUTO, F32 = "videotag", "videotag, f32"
DECODE, NETWORK = "its decoding alone", "its network alone"
COLD, WARM = "first start", "start from the cache"
LEAST_RATIO = {"640x360": 20.0, "1280x720": 16.0}
MAX_TIME_RATIO, MOST_MEMORY_MB = 1.15, 1500.0
_MAIN, _BELOW = "in its process", "in its decoders"
_COPIES = 2  # of every clip, so that decoding and the network overlap for part of a run
_HOUR_SEC = 3600


def run(options: Options) -> Part:
    """Measures both ways end to end, and videotag's parts, start and memory."""
    num_frames = QUICK_FRAMES if options.quick else NUM_FRAMES
    part = Part(f"End to end: videos to .npy, {num_frames} frames each, ResNet-101")
    shared: dict[str, Any] = {"weights": str(make_weights(options)), "num_frames": num_frames}
    first = options.clip(bench_clips.SMALL[0])
    specs = {F32: "bench_extraction:Extract", DECODE: "bench_extraction:DecodeAlone"}
    specs[NETWORK] = "bench_extraction:NetworkAlone"
    auto: dict[str, Any] = {**shared, "precision": "auto", "first": first}
    arguments: dict[str, dict[str, Any]] = {
        F32: {**auto, "precision": "f32"},
        DECODE: shared,
        NETWORK: auto,
    }
    if baseline.has_opencv():
        ways = (BASELINE, BASELINE_WITH_MKL) if mkl_cpu_type() else (BASELINE,)
        part.notes += [MKL_NOTE] * (BASELINE_WITH_MKL in ways)
        specs = {**dict.fromkeys(ways, "baseline:Extract"), **specs}
        arguments |= {name: {"weights": shared["weights"]} for name in ways}
    else:
        part.notes.append(f"{baseline.REMEDY}.")
    ours = "bench_extraction:Extract"
    shutil.rmtree(options.cache_dir, ignore_errors=True)
    peaks = {}
    if not options.quick:
        with contextlib.closing(options.child(ours, **auto)) as child:
            peaks = {COLD: [peak_family_mb(child.pid, child.wait)]}
        shutil.rmtree(options.cache_dir, ignore_errors=True)
    with options.child(ours, **auto) as child:  # this one and the next run alone, as their start is timed
        starts = {COLD: [child.start_sec]}
    with options.child(ours, **auto) as child, options.children(specs, arguments) as others:
        options.say("extraction: started")
        starts[WARM] = [child.start_sec]
        children = {AUTO: child, **others}
        part.notes.append(
            f"{AUTO}: {children[AUTO].facts['runtime']}; {F32}: {children[F32].facts['runtime']}."
        )
        for text, paths in video_sets(options):
            part.lines += _lines(text, paths, children, options, num_frames)
        for name in (DECODE, NETWORK, BASELINE, BASELINE_WITH_MKL):
            if name in children:
                children[name].close()
        if options.long:
            part.lines += _long_lines(children[AUTO], options)
    part.lines.append(Line("From starting Python to the first video's features", "seconds", starts))
    if peaks:
        goals = dict.fromkeys(peaks, MOST_MEMORY_MB)
        part.lines.append(Line("the same, peak memory", "MB", peaks, goals=goals))
    part.notes += [
        f"Each run processes every clip {_COPIES} times, f32 and the baseline once; numbers are per video. "
        "The ratio divides the time of a run by the sum of its parts' times; below 1 they overlap.",
        "At the first start nothing has been compiled, but files are in memory.",
        "Memory is that of all processes together (PSS). The goals of the ratios are for two cores with AMX.",
    ]
    return part


def video_sets(options: Options) -> list[tuple[str, list[str]]]:
    """(description, clips) of each run."""
    found = []
    for kind in bench_clips.SMALL[:1] if options.quick else (bench_clips.SMALL[-1], bench_clips.LARGE[-1]):
        found.append((kind.text, [options.clip(kind)]))
    own = own_videos(options)
    return [*found, (f"own videos ({len(own)})", list(map(str, own)))] if own else found


def _lines(
    text: str, paths: Sequence[str], children: Mapping[str, Child], options: Options, num_frames: int
) -> list[Line]:
    """Measures one set of clips."""
    with tempfile.TemporaryDirectory(dir=options.work_dir) as folder:
        many = copies(paths, _COPIES, Path(folder))
        spent: dict[str, list[float]] = {_MAIN: [], _BELOW: []}
        goal = LEAST_RATIO.get(text.partition(",")[0])
        given = {"paths": list(paths), "num_frames": num_frames}
        measures: dict[str, Callable[[], float]] = {
            name: partial(_baseline_seconds, children[name], folder, given)
            for name in (BASELINE, BASELINE_WITH_MKL)
            if name in children
        }
        ours = {name: child for name, child in children.items() if name not in measures}
        measures |= measures_of(ours, "seconds", paths=many)
        few = many[: len(paths)]
        measures[F32] = measures_of({F32: children[F32]}, "seconds", paths=few)[F32]
        measures[AUTO] = partial(_seconds_and_cpu, children[AUTO], many, spent)
        rounds = take_turns(measures, options.num_rounds(cheap=False))
        options.say(f"extraction {text}")
        memory = {
            name: [peak_family_mb(children[name].pid, partial(children[name].measure, paths=taken))]
            for name, taken in ((AUTO, many), (F32, few))
        }
    whole = {
        name: rounds[name]
        for name in (BASELINE, BASELINE_WITH_MKL, AUTO, F32, DECODE, NETWORK)
        if name in rounds
    }
    return [
        Line(text, "seconds a video", whole, reference=BASELINE, goals={AUTO: goal} if goal else {}),
        Line("the same, processor time of videotag", "seconds a video", spent),
        Line(
            "the same, ratio",
            "of the whole to the sum of its parts",
            {AUTO: time_ratios(rounds)},
            goals={AUTO: MAX_TIME_RATIO},
        ),
        Line("the same, peak memory", "MB", memory, goals=dict.fromkeys(memory, MOST_MEMORY_MB)),
    ]


def _seconds_and_cpu(child: Child, paths: list[str], spent: Mapping[str, list[float]]) -> float:
    """Seconds per video; appends the processor time of the process and of its decoders to `spent`."""
    before = cpu_sec(child.pid)
    found = child.measure(paths=paths)
    # The decoders ended with the run, so the time of the process includes theirs.
    spent[_BELOW].append(found["children_cpu"] / len(paths))
    spent[_MAIN].append((cpu_sec(child.pid) - before - found["children_cpu"]) / len(paths))
    return float(found["seconds"])


def _baseline_seconds(child: Child, folder: str, given: Mapping[str, Any]) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as save_dir:
        return float(child.measure(**given, save_dir=f"{save_dir}/features")["seconds"])


def time_ratios(rounds: Mapping[str, Sequence[float]]) -> list[float]:
    """End-to-end time over the sum of decoding alone and the network alone, by round."""
    columns = zip(rounds[AUTO], rounds[DECODE], rounds[NETWORK], strict=True)
    return [whole / (decoding + network) for whole, decoding, network in columns]


def copies(paths: Sequence[str], count: int, folder: Path) -> list[str]:
    """Links to every file under `count` different names, in turn, as a run takes each file once."""
    made = []
    for number in range(count):
        for index, path in enumerate(paths):
            name = folder / f"{number}-{index}{Path(path).suffix}"
            name.symlink_to(Path(path).absolute())
            made.append(str(name))
    return made


def _long_lines(child: Child, options: Options) -> list[Line]:
    """Measures the extraction of one hour of video."""
    path = options.clips_dir / f"hour-{bench_clips.SMALL[-1].file_name}"
    if not path.exists():
        source = Path(options.clip(bench_clips.SMALL[-1]))
        bench_clips.write_looped(path, source, seconds=_HOUR_SEC)
    seconds: list[float] = []
    peak = peak_family_mb(
        child.pid, lambda: seconds.append(float(child.measure(paths=[str(path)])["seconds"]))
    )
    options.say("extraction of an hour")
    return [
        Line("one hour of 640x360", "seconds a video", {AUTO: seconds}),
        Line("the same, peak memory", "MB", {AUTO: [peak]}, goals={AUTO: MOST_MEMORY_MB}),
    ]


class Extract:
    """A contestant: the job of `videotag extract`, with its backend selected.

    Args:
        weights: Weights of the TSN.
        precision: Precision of the network, "auto" or "f32".
        num_frames: Number of frames per video.
        first: Video that it extracts before it is ready.
        config: Config of the TSN.
    """

    def __init__(
        self, weights: str, precision: str, num_frames: int, first: str, config: str = "configs/tsn.yaml"
    ) -> None:
        from videotag.formats.filelist import ListEntry
        from videotag.inference.extract import ExtractJob
        from videotag.inference.jobs import run_job
        from videotag.inference.outputs import Destination

        self.extractor = open_extractor(weights, precision, num_frames=num_frames, config=config)
        self._job = ExtractJob(self.extractor)
        with tempfile.TemporaryDirectory() as folder:
            run_job(self._job, [ListEntry(first)], Destination(Path(folder) / "features", "bench.list"))
        network = self.extractor.network
        self.facts = {"runtime": f"{network.runtime}, {network.precision}"}

    def measure(self, paths: list[str]) -> dict[str, Any]:
        """Seconds per video."""
        from videotag.formats.filelist import ListEntry
        from videotag.inference.jobs import in_threads

        with tempfile.TemporaryDirectory() as folder:
            started, before = time.perf_counter(), _children_cpu()
            items = [(ListEntry(path), Path(folder) / f"{index}.npy") for index, path in enumerate(paths)]
            outcomes = list(in_threads(self._job, items))
            seconds = time.perf_counter() - started
        used, written = _children_cpu() - before, sum(o.status == "written" for o in outcomes)
        return {"seconds": seconds / len(paths), "written": written, "children_cpu": used}


def _children_cpu() -> float:
    """Processor time in seconds of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class DecodeAlone:
    """A contestant: the decoding of an extraction, and nothing else."""

    def __init__(self, weights: str, num_frames: int, config: str = "configs/tsn.yaml") -> None:
        from videotag.config import load_config
        from videotag.models import load_models

        load_models()
        overrides: list[tuple[str, Any]] = [("INFER.seg_num", num_frames)]
        self._split = load_config(config, overrides=overrides).infer

    def measure(self, paths: list[str]) -> dict[str, Any]:
        """Seconds per video."""
        from videotag.datasets.prefetch import prefetch
        from videotag.formats.filelist import ListEntry
        from videotag.inputs.frames import read_frames
        from videotag.media.decode_pool import DecodePool

        split = self._split
        started = time.perf_counter()
        with DecodePool() as pool:
            read = partial(read_frames, split=split, pool=pool)
            entries = [ListEntry(path) for path in paths]
            for _ in prefetch(read, entries, num_threads=split.videos_at_once, ahead=split.videos_ahead):
                pass
        return {"seconds": (time.perf_counter() - started) / len(paths)}


class NetworkAlone(Extract):
    """A contestant: the extractor on frames in memory."""

    def measure(self, paths: list[str]) -> dict[str, Any]:
        """Seconds per video."""
        from videotag.formats.filelist import ListEntry
        from videotag.inputs.frames import read_frames

        seconds = 0.0
        for path in paths:
            frames = read_frames(ListEntry(path), self.extractor.config.infer)
            started = time.perf_counter()
            self.extractor.features(frames)
            seconds += time.perf_counter() - started
        return {"seconds": seconds / len(paths)}
