"""Options and helpers that all parts of the benchmark share: rounds, folders, clips and children."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import bench_clips
from bench_child import Child
from bench_machine import num_machine_cores

from videotag.media.suffixes import list_videos
from videotag.media.video import probe

BASELINE = "the baseline"
BASELINE_WITH_MKL = "the baseline with the MKL setting"
MKL_NOTE = (
    "The MKL setting is MKL_DEBUG_CPU_TYPE as videotag sets it; without it, Paddle's MKL uses slow code on "
    "non-Intel CPUs."
)
_CHEAP_ROUNDS, _DEAR_ROUNDS = 5, 2  # a round of the baseline ResNet-101 takes minutes
_QUICK_ROUNDS = 2
_READY_AT_ONCE = 2  # contestants that compile at the same time need memory at the same time


@dataclass
class Options:
    """Options of a benchmark run.

    Attributes:
        work_dir: Folder for clips, weights and caches, which are reused.
        quick: Whether to use small sizes and few rounds.
        rounds: Rounds of every part; None uses each part's default.
        videos_dir: Folder with the user's videos, or None.
        long: Whether to extract a video of one hour too.
    """

    work_dir: Path
    quick: bool = False
    rounds: int | None = None
    videos_dir: Path | None = None
    long: bool = False
    _started: float = field(default_factory=time.monotonic)

    @property
    def cache_dir(self) -> Path:
        """Folder for the contestants' compiled networks; nobody else uses this name, as it gets emptied."""
        return self.work_dir / "bench-cache"

    @property
    def clips_dir(self) -> Path:
        """Folder of generated clips."""
        return self.work_dir / "clips"

    def clip(self, kind: bench_clips.ClipKind) -> str:
        """The path of a clip; generates it if it is missing."""
        if not (self.clips_dir / kind.file_name).exists():
            self.say(f"generating a clip, {kind.text}")
        return str(bench_clips.clip(kind, self.clips_dir))

    def num_rounds(self, *, cheap: bool) -> int:
        """Number of rounds for a part whose measurements are cheap or expensive."""
        if self.quick:
            return self.rounds or (_QUICK_ROUNDS if cheap else 1)
        return self.rounds or (_CHEAP_ROUNDS if cheap else _DEAR_ROUNDS)

    @contextlib.contextmanager
    def children(
        self, specs: Mapping[str, str], arguments: Mapping[str, Mapping[str, Any]] | None = None
    ) -> Iterator[dict[str, Child]]:
        """Yields contestants by name, each in its own process until the block ends; `BASELINE` is plain.

        Two of them start up at a time.
        """
        with contextlib.ExitStack() as stack:
            children: dict[str, Child] = {}
            started: list[Child] = []
            for name, spec in specs.items():
                child = self.child(spec, is_plain=name == BASELINE, **(arguments or {}).get(name, {}))
                stack.callback(child.close)
                children[name] = child
                started.append(child)
                if len(started) == _READY_AT_ONCE:
                    started.pop(0).wait()
            for child in started:
                child.wait()
            yield children

    def child(self, spec: str, *, is_plain: bool = False, **arguments: Any) -> Child:
        """A contestant with one thread per core and the benchmark's own cache; see Child."""
        environment = {
            "OMP_NUM_THREADS": str(num_machine_cores()),
            "VIDEOTAG_CACHE": str(self.cache_dir.absolute()),
        }
        return Child(spec, environment=environment, is_plain=is_plain, **arguments)

    def say(self, text: str) -> None:
        """Prints progress to stderr."""
        print(f"{time.monotonic() - self._started:6.0f} s  {text}", file=sys.stderr, flush=True)


def measures_of(children: Mapping[str, Child], key: str, **arguments: Any) -> dict[str, Callable[[], float]]:
    """Contestant -> function that measures once with these arguments and returns the number `key`."""

    def measure(child: Child) -> float:
        return float(child.measure(**arguments)[key])

    return {name: partial(measure, child) for name, child in children.items()}


def clips_of(options: Options) -> list[tuple[str, str]]:
    """(description, path) of generated clips and of the user's videos."""
    kinds = bench_clips.SMALL[:1] if options.quick else bench_clips.SMALL + bench_clips.LARGE
    found = [(kind.text, options.clip(kind)) for kind in kinds]
    for number, path in enumerate(own_videos(options), start=1):
        info = probe(path)
        text = f"own video {number}, {info.width_px}x{info.height_px}, {info.duration_sec:.0f} s"
        found.append((text, str(path)))
    return found


def own_videos(options: Options) -> list[Path]:
    """Paths of the user's videos; empty without --videos."""
    return list_videos(options.videos_dir) if options.videos_dir else []
