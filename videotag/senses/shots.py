"""Shots: TransNetV2 on all frames at 48 x 27 pixels, in windows of 100 with an overlap of 50.

Shapes: T frames of a window, H x W = 27 x 48 pixels.
"""

from __future__ import annotations

import numpy as np

from videotag.media.video import SampledFrame
from videotag.media.views import View
from videotag.models.transnet_v2 import (
    CUT,
    HEIGHT_PX,
    HISTOGRAMS,
    NUM_FRAMES,
    WIDTH_PX,
    color_histograms,
)
from videotag.registry import FRAMES
from videotag.runtime.trained import Network
from videotag.senses.finding import Finder, Finding, Kind, Sense

STEP = 50  # frames between windows, of which only the middle 50 predictions are used
THRESHOLD = 0.5  # of the probability that a frame is the last one of a shot
_MARGIN = (NUM_FRAMES - STEP) // 2
SOURCE = "TransNetV2"


class Shots(Sense):
    """Divides videos into shots.

    Args:
        network: TransNetV2, see videotag.models.transnet_v2.
    """

    kind: Kind = "shots"
    source = SOURCE
    view: View | None = View(size_px=(WIDTH_PX, HEIGHT_PX))

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = network

    def finder(self) -> ShotFinder:
        """A finder for the next video."""
        return ShotFinder(self._network)


class ShotFinder(Finder):
    """Divides one video into shots.

    Args:
        network: TransNetV2.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._images: list[np.ndarray] = []  # of the next window, (H, W, 3) each
        self._times: list[float] = []  # of all frames, in seconds
        self._probabilities: list[np.ndarray] = []

    def add_frame(self, frame: SampledFrame) -> None:
        """Takes the next frame (27, 48, 3)."""
        if not self._images:
            self._images = [frame.image] * _MARGIN  # the first window starts before the first frame
        self._images.append(frame.image)
        self._times.append(frame.time_sec)
        if len(self._images) == NUM_FRAMES:
            self._run()

    def finish(self, duration_sec: float) -> list[Finding]:
        """The shots, which divide the video without gaps; one shot for a video without a cut."""
        if not self._times:
            return []
        while len(self._probabilities) * STEP < len(self._times):
            self._images += [self._images[-1]] * (NUM_FRAMES - len(self._images))
            self._run()
        probabilities = np.concatenate(self._probabilities)[: len(self._times)]
        starts = [0.0, *(self._times[index + 1] for index in last_frames(probabilities))]
        ends = [*starts[1:], max(duration_sec, self._times[-1])]
        return [Finding("shots", a, b, SOURCE) for a, b in zip(starts, ends, strict=True)]

    def _run(self) -> None:
        """Runs a window, and keeps the frames of the next one."""
        window = np.stack(self._images)  # (T, H, W, 3)
        arrays = {FRAMES: window[None], HISTOGRAMS: color_histograms(window)[None]}
        logits = self._network(arrays)[CUT][0, _MARGIN : _MARGIN + STEP]
        self._probabilities.append(0.5 * (1 + np.tanh(0.5 * logits)))
        self._images = self._images[STEP:]


def last_frames(probabilities: np.ndarray, threshold: float = THRESHOLD) -> list[int]:
    """The numbers of the last frames of shots, except the last frame of all.

    Of neighboring frames above the threshold, as in a dissolve, the most probable one is taken.

    Args:
        probabilities: (T,) probability that a frame is the last one of a shot.
        threshold: Least probability.
    """
    above = np.flatnonzero(probabilities[:-1] >= threshold)
    runs = np.split(above, np.flatnonzero(np.diff(above) > 1) + 1)
    return [int(run[np.argmax(probabilities[run])]) for run in runs if len(run)]
