"""Batches the frames of consecutive videos through a network.

Shapes: K frames of a video, B frames of a batch, H height, W width, D feature width.
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
    missing: int  # frames without rows so far
    parts: list[np.ndarray] = field(default_factory=list)  # computed rows, in order


def rows_of_videos(
    videos: Iterable[tuple[Item, np.ndarray | None]],
    network: Callable[[np.ndarray], np.ndarray],
    *,
    batch_size: int,
    across_videos: bool,
) -> Iterator[tuple[Item, np.ndarray | None]]:
    """Yields each item with the rows (K, D) of its frames, in order; None for an item without frames.

    Args:
        videos: Items of any type, each with the frames (K, H, W, 3) of a video, K >= 1, or None.
        network: Function from frames (B, H, W, 3) to rows (B, D).
        batch_size: Maximum of B.
        across_videos: Whether a batch may hold frames of several videos, which keeps a GPU busy. Without it,
            the rows of a video are bitwise independent of the other videos.
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
    """Runs the batch, appends the rows to their videos, and clears the batch."""
    images = [part for _, part in batch]
    # Avoid a copy if all frames are of one video.
    rows = network(images[0] if len(images) == 1 else np.concatenate(images))  # (B, D)
    for video, part in batch:
        video.parts.append(rows[: len(part)])
        video.missing -= len(part)
        rows = rows[len(part) :]
    batch.clear()


def _finished(video: _Video[Item]) -> tuple[Item, np.ndarray | None]:
    return video.item, np.concatenate(video.parts) if video.parts else None
