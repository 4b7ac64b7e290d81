"""Frames of one video after the other -> rows of a network, in batches of one size.

Shapes: K frames of a video, B of a batch, H height, W width, D feature width.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

Item = TypeVar("Item")


@dataclass
class _Video(Generic[Item]):
    item: Item
    missing: int  # frames whose rows are not there yet
    parts: list[np.ndarray] = field(default_factory=list)  # rows, in order


def rows_of_videos(
    videos: Iterable[tuple[Item, np.ndarray | None]],
    network: Callable[[np.ndarray], np.ndarray],
    *,
    batch_size: int,
    across_videos: bool,
) -> Iterator[tuple[Item, np.ndarray | None]]:
    """A row (D,) for every frame: each video with its rows (K, D), in the videos' order.

    Args:
        videos: anything, with its frames (K, H, W, 3), K from 1; None in place of them comes back as it is.
        network: frames (B, H, W, 3) -> rows (B, D).
        batch_size: the largest B.
        across_videos: whether a batch may hold frames of several videos, which keeps a GPU busy. If not, the
            rows of a video do not depend on its neighbours, not even in the last bit.
    """
    waiting: deque[_Video[Item]] = deque()
    batch: list[tuple[_Video[Item], np.ndarray]] = []
    for item, images in videos:
        video = _Video(item, 0 if images is None else len(images))
        waiting.append(video)
        rest = images
        while rest is not None and len(rest):
            room = batch_size - sum(len(part) for _, part in batch)
            part, rest = rest[:room], rest[room:]
            batch.append((video, part))
            if len(part) == room or not across_videos:
                _run(network, batch)
        while waiting and not waiting[0].missing:
            yield _finished(waiting.popleft())
    if batch:
        _run(network, batch)
    for video in waiting:
        yield _finished(video)


def _run(network: Callable[[np.ndarray], np.ndarray], batch: list[tuple[_Video[Item], np.ndarray]]) -> None:
    """Hands every video the rows of its frames, and empties the batch."""
    images = [part for _, part in batch]
    # The frames of one video are not copied.
    rows = network(images[0] if len(images) == 1 else np.concatenate(images))  # (B, D)
    for video, part in batch:
        video.parts.append(rows[: len(part)])
        video.missing -= len(part)
        rows = rows[len(part) :]
    batch.clear()


def _finished(video: _Video[Item]) -> tuple[Item, np.ndarray | None]:
    return video.item, np.concatenate(video.parts) if video.parts else None
