"""Frames of many videos in batches: every video gets its own rows, in order, whatever shares a batch."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.inference.frame_batches import rows_of_videos


def video(number, num_frames):
    """Frames whose every pixel is 10 times the video's number plus the frame's."""
    values = 10 * number + np.arange(num_frames, dtype=np.uint8)
    return np.broadcast_to(values[:, None, None, None], (num_frames, 2, 2, 3))


class Recorded:
    """A network whose row is the frame's first pixel and its double; remembers the batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, frames):
        values = frames[:, 0, 0, 0].astype(np.float32)
        self.batches.append(values.astype(int).tolist())
        return np.stack([values, 2 * values], axis=1)


COUNTS = [3, None, 5, 1, 1, None]


def run(counts, **options):
    network = Recorded()
    videos = [(n, None if count is None else video(n, count)) for n, count in enumerate(counts)]
    return list(rows_of_videos(videos, network, **options)), network.batches


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
@pytest.mark.parametrize("across_videos", [False, True])
def test_every_video_gets_its_own_rows_in_order(batch_size, across_videos):
    results, batches = run(COUNTS, batch_size=batch_size, across_videos=across_videos)
    assert [item for item, _ in results] == list(range(len(COUNTS)))
    for (number, rows), count in zip(results, COUNTS, strict=True):
        if count is None:
            assert rows is None
        else:
            values = 10 * number + np.arange(count)
            assert np.array_equal(rows, np.stack([values, 2 * values], axis=1))
    assert max(map(len, batches)) <= batch_size


def test_batches_are_filled_across_videos_or_end_with_a_video():
    _, alone = run(COUNTS, batch_size=4, across_videos=False)
    assert alone == [[0, 1, 2], [20, 21, 22, 23], [24], [30], [40]]
    _, shared = run(COUNTS, batch_size=4, across_videos=True)
    assert shared == [[0, 1, 2, 20], [21, 22, 23, 24], [30, 40]]


def test_a_video_comes_as_soon_as_its_last_frame_has_run():
    taken = []

    def videos():
        for number, count in enumerate([3, 3, 3]):
            taken.append(number)
            yield number, video(number, count)

    rows = rows_of_videos(videos(), Recorded(), batch_size=4, across_videos=True)
    assert next(rows)[0] == 0
    assert taken == [0, 1]
    assert list(rows_of_videos([], Recorded(), batch_size=4, across_videos=True)) == []


def test_frames_of_one_video_are_not_copied():
    frames, seen = np.zeros((6, 2, 2, 3), np.uint8), []

    def network(batch):
        seen.append(np.shares_memory(batch, frames))
        return np.zeros((len(batch), 1), np.float32)

    list(rows_of_videos([("a", frames)], network, batch_size=4, across_videos=True))
    assert seen == [True, True]
