"""RGB frames and sound -> an H.264 video file, whole or not at all."""

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

# Every frame is coded alone and with the same quantiser, on one thread: the same frames give the same bytes,
# and a clip played backwards decodes to exactly the frames of the clip, in reverse.
_INTRA_ONLY = {"qp": "18", "g": "1", "bf": "0", "preset": "veryfast"}


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    *,
    fps: float,
    sound: tuple[np.ndarray, int] | None = None,
) -> None:
    """Writes an .mp4 of H.264 (yuv420p) and, with sound, AAC.

    Args:
        path: of the finished file.
        frames: uint8 RGB (H, W, 3), H and W even, all of one size; at least one.
        fps: frames per second, above 0; 29.97 is taken for 30000/1001.
        sound: mono samples float32 in -1..1, at least one, and their rate in Hz.

    Raises:
        ShapeError: a frame, fps or the sound is not as said above.
        MediaError: no frames, or this PyAV lacks an encoder.
        OutputError: the place cannot be written.
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
            f"{path}: this PyAV cannot write {error}; install the one of PyPI: pip install av"
        ) from error
    except av.error.FFmpegError as error:
        raise MediaError(
            f"{path}: cannot be encoded ({error.strerror}); sound needs a usual rate, such as 16000"
        ) from error


def _add_video(container: Any, image: np.ndarray, fps: Fraction) -> Any:
    stream = container.add_stream("libx264", rate=fps, options=dict(_INTRA_ONLY))
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    return stream


def _check_frame(path: str | Path, image: np.ndarray, width: int, height: int) -> None:
    """Refuses what PyAV would scale or misread in silence."""
    if image.dtype != np.uint8 or image.shape != (height, width, 3) or width % 2 or height % 2:
        raise ShapeError(
            f"{path}: a frame of {image.dtype} {image.shape}, expected uint8 (H, W, 3), H and W even and the "
            "same for all"
        )


def _audio_frame(samples: np.ndarray, rate: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    return frame
