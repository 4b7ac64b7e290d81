"""RGB frames and sound -> an H.264 video file, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np

from videotag.atomic import open_atomic
from videotag.errors import MediaError

# Every frame is coded alone and with the same quantiser, on one thread: the same frames give the same bytes,
# and a clip played backwards decodes to exactly the frames of the clip, in reverse.
_INTRA_ONLY = {"qp": "18", "g": "1", "bf": "0", "preset": "veryfast"}


def write_video(
    path: str | Path, frames: Iterable[np.ndarray], *, fps: int, sound: tuple[np.ndarray, int] | None = None
) -> None:
    """Writes an .mp4 of H.264 (yuv420p) and, with sound, AAC.

    Args:
        path: of the finished file.
        frames: uint8 RGB (H, W, 3), H and W even, all of one size; at least one.
        fps: frames per second.
        sound: mono samples float32 in -1..1, and their rate in Hz.

    Raises:
        MediaError: no frames, an odd size, or this PyAV has no H.264 encoder.
        OutputError: the place cannot be written.
    """
    try:
        with open_atomic(path) as file, av.open(file, "w", format="mp4") as container:
            video = None
            for image in frames:
                if video is None:
                    video = container.add_stream("libx264", rate=fps, options=dict(_INTRA_ONLY))
                    video.height, video.width = image.shape[:2]
                    video.pix_fmt = "yuv420p"
                    video.codec_context.thread_count = 1
                    audio = container.add_stream("aac", rate=sound[1], layout="mono") if sound else None
                container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            if video is None:
                raise MediaError(f"{path}: no frames to write; a video needs at least one")
            container.mux(video.encode(None))
            if sound and audio is not None:
                container.mux(audio.encode(_audio_frame(*sound)))
                container.mux(audio.encode(None))
    except av.FFmpegError as error:
        raise MediaError(
            f"{path}: cannot be encoded ({error.strerror}); H.264 needs an even width and height"
        ) from error


def _audio_frame(samples: np.ndarray, rate: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    return frame
