"""Generates tiny videos; every frame has one grey level, which encodes its number."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from videotag.media.video import FrameReader

GREY_OF_FRAME_0, GREY_STEP = 10, 20  # numbers 0 to 12 stay below white


def grey_frames(numbers: Iterable[int], width: int, height: int) -> list[np.ndarray]:
    return [np.full((height, width, 3), GREY_OF_FRAME_0 + GREY_STEP * n, np.uint8) for n in numbers]


def noise_frames(count: int, width: int, height: int) -> list[np.ndarray]:
    """Frames that compress badly, so that all packets are about equally large."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def frame_number(image: np.ndarray) -> int:
    return round((float(image.mean()) - GREY_OF_FRAME_0) / GREY_STEP)


def write_with_av(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 25,
    pts: Sequence[int] | None = None,
    format: str | None = None,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pixel_aspect: int | None = None,
    sound_sec: float = 0.0,
) -> Path:
    """Encodes uint8 RGB frames; pts are in units of 1 / fps."""
    with av.open(str(path), "w", format=format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=codec_options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        sound = container.add_stream("aac", rate=16_000, layout="mono") if sound_sec else None
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image))
            frame.pts = index if pts is None else pts[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            samples = np.zeros((1, int(sound_sec * 16_000)), np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = 16_000
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """make_video("name.mp4", numbers=range(8), size=(64, 48), ...): a video of grey frames."""

    def make(
        name: str, numbers: Iterable[int] = range(8), *, size: tuple[int, int] = (64, 48), **how: Any
    ) -> Path:
        return write_with_av(tmp_path / name, grey_frames(numbers, *size), **how)

    return make


@pytest.fixture
def make_noise(tmp_path: Path) -> Callable[..., Path]:
    """make_noise("name.mp4", count): a video whose packets are about equally large."""

    def make(name: str, count: int, *, size: tuple[int, int] = (64, 48), **how: Any) -> Path:
        return write_with_av(tmp_path / name, noise_frames(count, *size), **how)

    return make


@pytest.fixture
def write_frames(tmp_path: Path) -> Callable[..., Path]:
    """write_frames("name.mp4", frames, ...): a video of any frames."""
    return lambda name, frames, **how: write_with_av(tmp_path / name, frames, **how)


@pytest.fixture
def rows() -> Callable[..., list[int]]:
    """rows(path, n): the frame numbers that the n sampling times fall on, one for each."""

    def numbers(path: Path, num_frames: int, **how: Any) -> list[int]:
        reader = FrameReader(path, num_frames, short_side_px=16, **how)
        images = [frame_number(f.image) for f in reader]
        return [images[row] for row in reader.rows]

    return numbers


@pytest.fixture
def refusal_cost_mb() -> Callable[[Path], int]:
    """refusal_cost_mb(path): memory in MB that a separate process takes until probe() rejects the file."""
    code = (
        "import resource, sys\n"
        "from videotag.errors import MediaError; from videotag.media.video import probe\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: probe(sys.argv[1])\n"
        "except MediaError: print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )

    def cost(path: Path) -> int:
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        return int(done.stdout)

    return cost
