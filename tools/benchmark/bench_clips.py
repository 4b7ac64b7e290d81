"""Generates clips that cost about as much to decode as film of their size: H.264, motion, grain, cuts.

Two layers of natural-looking (1/f) texture move over each other under fine grain, and the textures change
every few seconds. The encoder uses all its usual tools and targets a bitrate.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from videotag.system.atomic import open_atomic

FPS = 25
_VERSION = 1  # of the content; part of the file names
_SCENE_SEC = 3
_GRAIN = 6.0  # standard deviation, on a scale of 255
_MOST_GRAIN = 16
_MARGIN_PX = 128  # how far a layer may move within a scene


@dataclass(frozen=True)
class ClipKind:
    """Size, length and bitrate of a clip.

    Attributes:
        width_px, height_px: Size of the picture.
        seconds: Duration of the clip.
        kbit_per_sec: Target bitrate of the encoder.
    """

    width_px: int
    height_px: int
    seconds: int
    kbit_per_sec: int

    @property
    def text(self) -> str:
        """The kind in words."""
        rate = self.kbit_per_sec / 1000
        return f"{self.width_px}x{self.height_px}, {self.seconds} s, {rate:g} Mbit/s"

    @property
    def file_name(self) -> str:
        """File name, unique for the content."""
        return f"{self.width_px}x{self.height_px}-{self.seconds}s-{self.kbit_per_sec}k-v{_VERSION}.mp4"


#: As short-video platforms serve them.
SMALL = tuple(ClipKind(640, 360, seconds, 800) for seconds in (10, 30))
LARGE = tuple(ClipKind(1280, 720, seconds, 2500) for seconds in (10, 30))


def clip(kind: ClipKind, folder: Path) -> Path:
    """The path of a clip in a folder; generates it if it is missing, always with the same content."""
    path = folder / kind.file_name
    if not path.exists():
        frames = film_frames(kind.width_px, kind.height_px, kind.seconds * FPS, seed=kind.seconds)
        write_film(path, frames, kbit_per_sec=kind.kbit_per_sec)
    return path


def film_frames(width_px: int, height_px: int, count: int, *, seed: int) -> Iterator[np.ndarray]:
    """Yields `count` frames, (H, W, 3) uint8 each."""
    rng = np.random.default_rng(seed)
    grains = [_grain(width_px, height_px, rng) for _ in range(5)]
    per_scene = _SCENE_SEC * FPS
    for start in range(0, count, per_scene):
        front, back = (_texture(width_px + _MARGIN_PX, height_px + _MARGIN_PX, rng) for _ in range(2))
        speeds = rng.uniform(-1, 1, (2, 2)) * _MARGIN_PX / per_scene
        mask = _texture(width_px, height_px, rng)[..., :1] > 110  # which layer is in front
        for index in range(min(per_scene, count - start)):
            frame = _window(back, index * speeds[0], width_px, height_px).copy()
            shown = _window(front, index * speeds[1], width_px, height_px)
            np.copyto(frame, shown, where=np.roll(mask, 2 * index, axis=1))
            frame += grains[int(rng.integers(len(grains)))]
            yield frame


def write_film(path: Path, frames: Iterator[np.ndarray], *, kbit_per_sec: int) -> None:
    """Writes an .mp4 as video platforms do: H.264 with B-frames, a key frame every ten seconds, a bitrate.

    Args:
        path: The file to write.
        frames: At least one frame, (H, W, 3) uint8 each.
        kbit_per_sec: Target bitrate.
    """
    first = next(frames)
    with open_atomic(path) as file, av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=FPS, options={"preset": "fast"})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = kbit_per_sec * 1000
        stream.codec_context.thread_count = 0
        for image in itertools.chain([first], frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def write_looped(path: Path, source: Path, *, seconds: int) -> None:
    """Repeats the packets of `source` into a longer .mp4, without encoding them again.

    Args:
        path: The file to write.
        source: Clip of this module: its packets start at 0 and last one frame each.
        seconds: Minimum duration; the last repetition is complete.
    """
    with av.open(str(source)) as given:
        stream = given.streams.video[0]
        packets = [p for p in given.demux(stream) if p.dts is not None]
        tick = Fraction(1, FPS) / Fraction(stream.time_base or 1)  # length of a frame
        turn = int(len(packets) * tick)
        with open_atomic(path) as file, av.open(file, "w", format="mp4") as container:
            copied = container.add_stream_from_template(stream)
            for start in range(0, -(-seconds * FPS // len(packets)) * turn, turn):
                for packet in packets:
                    again: Any = av.Packet(bytes(packet))
                    again.pts, again.dts = packet.pts + start, packet.dts + start
                    again.time_base, again.stream = packet.time_base, copied
                    again.duration, again.is_keyframe = packet.duration, packet.is_keyframe
                    container.mux(again)


def _texture(width_px: int, height_px: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 around 112, with amplitudes that fall with frequency as in natural images."""
    rows, columns = np.fft.fftfreq(height_px)[:, None], np.fft.rfftfreq(width_px)[None]
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / max(width_px, height_px))
    planes = []
    for _ in range(3):
        noise = np.fft.rfft2(rng.standard_normal((height_px, width_px)))
        plane = np.fft.irfft2(noise * falling, s=(height_px, width_px))
        planes.append(112 + 44 * plane / plane.std())
    return np.stack(planes, axis=-1).clip(0, 255 - 2 * _MOST_GRAIN).astype(np.uint8)


def _grain(width_px: int, height_px: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 1) uint8 around _MOST_GRAIN, for which textures leave room."""
    noise = _GRAIN * rng.standard_normal((height_px, width_px, 1), np.float32)
    return (noise.clip(-_MOST_GRAIN, _MOST_GRAIN) + _MOST_GRAIN).astype(np.uint8)


def _window(layer: np.ndarray, shift: np.ndarray, width_px: int, height_px: int) -> np.ndarray:
    """The visible part of a layer that has moved by `shift` (rows, columns)."""
    top, left = (shift % _MARGIN_PX).astype(int)
    return layer[top : top + height_px, left : left + width_px]
