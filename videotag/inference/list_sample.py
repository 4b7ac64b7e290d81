"""A sample of frames from a whole list, on which backend and precision are selected before work.

Shapes: K frames, H height, W width.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

import numpy as np

from videotag.datasets.batches import Dataset, slices
from videotag.datasets.prefetch import prefetch
from videotag.errors import MediaError
from videotag.formats.filelist import ListEntry
from videotag.inference.data import frame_entries
from videotag.inference.trained_model import TrainedModel
from videotag.inputs.frames import read_first_images
from videotag.media.decode_pool import DecodePool
from videotag.registry import FRAMES
from videotag.runtime.choice import SAMPLE_ROWS, evenly_spaced
from videotag.sections import VideoSplitSection

SAMPLE_VIDEOS = 8
_DECODED_SHARE = 4  # the first quarter of the frames, as decoding all of a long video takes minutes


def sample_frames(
    entries: Sequence[ListEntry], split: VideoSplitSection
) -> tuple[np.ndarray | None, dict[str, MediaError]]:
    """Frames sampled from a list, and the videos that could not be read.

    The list is divided into SAMPLE_VIDEOS parts. The first readable video of each part contributes an equal
    share of SAMPLE_ROWS frames, so the sample depends on the list alone and not on the order of decoding.

    Args:
        entries: Videos or folders of frames, at least one.
        split: Section with sampling and frame size.

    Returns:
        Frames (K, H, W, 3) uint8, or None if no video is readable; and the error of each unreadable path that
        was tried.
    """
    parts = [entries[rows] for rows in slices(len(entries), SAMPLE_VIDEOS)]
    count = -(-SAMPLE_ROWS // len(parts))
    num_decoded = max(count, split.seg_num // _DECODED_SHARE)
    failed: dict[str, MediaError] = {}
    stop = threading.Event()

    def read(part: Sequence[ListEntry]) -> np.ndarray | None:
        for entry in part:
            try:
                images = read_first_images(entry, split, num_decoded, pool=pool, stop=stop)
                return images[evenly_spaced(len(images), count)]
            except MediaError as error:
                failed[entry.path] = error
        return None

    with DecodePool() as pool:
        threads = split.videos_at_once
        with contextlib.closing(
            prefetch(read, parts, num_threads=threads, ahead=threads, stop=stop)
        ) as read_all:
            images = [found for found in read_all if found is not None]
    return np.concatenate(images) if images else None, failed


def select_runtime_on_list(model: TrainedModel, entries: Sequence[ListEntry], dataset: Dataset) -> None:
    """Selects the backend and precision of a model on samples spread over its list.

    Does nothing if the model needs no sample. Unreadable samples are ignored here and reported later.

    Args:
        model: Model to run on the list.
        entries: Entries of the list, at least one.
        dataset: Dataset of the list.

    Raises:
        WeightsError, ConfigError, DeviceError: The network cannot be loaded; see TrainedModel.load_network.
    """
    if not model.needs_sample:
        return
    if model.config.entry.two_stage:
        videos = frame_entries(model.config, model.config.infer, entries)
        images = sample_frames(videos, model.config.infer)[0] if videos else None
        if images is not None:
            model.select_runtime({FRAMES: images[None]})
        return
    rows = evenly_spaced(len(dataset), SAMPLE_ROWS)
    # The run itself reports unreadable samples.
    batches = dataset.batches([rows], on_error=lambda *_: None)
    batch = next(iter(batches))
    if batch is not None:
        model.select_runtime(batch.inputs)
