"""Writes RGB frames and sound to an H.264 video file, atomically."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.codec.codec import UnknownCodecError

from videotag.errors import MediaError, ShapeError
from videotag.system.atomic import open_atomic

# Every frame is encoded independently, with the same quantizer, on one thread: the same frames give the same
# bytes, and a reversed clip decodes to exactly the same frames in reverse order.
_INTRA_ONLY = {"qp": "18", "g": "1", "bf": "0", "preset": "veryfast"}


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    *,
    fps: float,
    sound: tuple[np.ndarray, int] | None = None,
) -> None:
    """Writes an .mp4 with H.264 video (yuv420p) and, if there is sound, AAC audio.

    Args:
        path: Path of the file.
        frames: At least one frame, (H, W, 3) uint8 RGB, H and W even and the same for all.
        fps: Frames per second, above 0; 29.97 becomes 30000/1001.
        sound: Pair of mono samples, (samples,) float32 in [-1, 1] and not empty, and sample rate in Hz; None
            for no sound.

    Raises:
        ShapeError: A frame, fps or the sound is invalid.
        MediaError: There are no frames, this PyAV lacks an encoder, or encoding fails.
        OutputError: The file cannot be written.
    """
    if not 0 < fps < float("inf"):
        raise ShapeError(f"{path}: fps {fps}, expected a number above 0")
    if sound and (sound[0].ndim != 1 or not sound[0].size):
        raise ShapeError(f"{path}: sound of shape {sound[0].shape}, expected (samples,) and at least one")
    try:
        with open_atomic(path) as file, av.open(file, "w", format="mp4") as container:
            video = audio = None
            for image in frames:
                if video is None:
                    video = _add_video(container, image, Fraction(fps).limit_denominator(1001))
                    audio = container.add_stream("aac", rate=sound[1], layout="mono") if sound else None
                _check_frame(path, image, video.width, video.height)
                container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            if video is None:
                raise MediaError(f"{path}: no frames to write; a video needs at least one")
            container.mux(video.encode(None))
            if sound and audio is not None:
                container.mux(audio.encode(_audio_frame(*sound)))
                container.mux(audio.encode(None))
    except UnknownCodecError as error:
        raise MediaError(
            f"{path}: this PyAV has no encoder {error}; install PyAV from PyPI: pip install av"
        ) from error
    except av.error.FFmpegError as error:
        raise MediaError(
            f"{path}: cannot be encoded ({error.strerror}); sound needs a standard rate, such as 16000"
        ) from error


def _add_video(container: Any, image: np.ndarray, fps: Fraction) -> Any:
    stream = container.add_stream("libx264", rate=fps, options=dict(_INTRA_ONLY))
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    return stream


def _check_frame(path: str | Path, image: np.ndarray, width: int, height: int) -> None:
    """Rejects frames other than (H, W, 3) uint8, which PyAV would silently scale or misread."""
    if image.dtype != np.uint8 or image.shape != (height, width, 3) or width % 2 or height % 2:
        raise ShapeError(
            f"{path}: frame of {image.dtype} {image.shape}, expected uint8 (H, W, 3) with H and W even and "
            "the same for all"
        )


def _audio_frame(samples: np.ndarray, rate: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    return frame
