"""Files with sound, for tests of several rooms."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np


def tone(seconds, rate, *, hz=440.0, channels=1):
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return np.tile(wave.astype(np.float32), (channels, 1))


def write_sound(
    path, sounds, *, rate=48_000, codec="aac", layout="mono", picture_sec=0.0, starts=(0.0,), default=None
):
    """Writes a file with a track per sound (channels, n), which starts at starts[track], and a picture."""
    with av.open(str(path), "w") as out:
        video = None
        if picture_sec:
            video = out.add_stream("mpeg4", rate=25)
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
        tracks = [out.add_stream(codec, rate=rate, layout=layout) for _ in sounds]
        for number in range(round(picture_sec * 25)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 8 * number % 256, np.uint8))
            out.mux(video.encode(frame))
        if video is not None:
            out.mux(video.encode(None))
        for track, sound, start in zip(tracks, sounds, [*starts, 0.0], strict=False):
            resampler = av.AudioResampler(format=track.format, layout=layout, rate=rate)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout=layout)
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round(start * rate)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                for packet in encoded(track, part):
                    out.mux(packet)
            out.mux(track.encode(None))
    return path


def encoded(track, frame):
    """The packets of a frame of any length; codecs want their own."""
    size, pts = track.codec_context.frame_size or frame.samples, frame.pts
    fifo = av.AudioFifo()
    frame.pts = None
    fifo.write(frame)
    while (part := fifo.read(size, partial=True)) is not None:
        part.pts, part.time_base = pts, frame.time_base
        pts += part.samples
        yield from track.encode(part)
