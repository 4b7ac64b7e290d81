"""Lists of videos as batches of clips: order, labels, repeatability and videos that cannot be decoded."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from videotag.datasets.order import ordered_groups
from videotag.datasets.sample_dataset import SampleDataset
from videotag.errors import MediaError
from videotag.formats.filelist import ListEntry
from videotag.inputs.frames import ClipReader, FrameOptions, read_frames
from videotag.media.frame_folder import FRAME_NAME
from videotag.media.writer import write_video
from videotag.sections import VideoSplitSection
from videotag.train_section import VideoTrainSection

SMALL = {"seg_num": 3, "short_size": 40, "target_size": 32, "batch_size": 2}


@pytest.fixture
def entries(work_dir):
    """Five videos of noise with a label each, the fourth being no video."""
    for index in range(5):
        frames = np.random.default_rng(index).integers(0, 255, (8, 48, 64, 3), dtype=np.uint8)
        write_video(f"{index}.mp4", frames, fps=8)
    (work_dir / "3.mp4").write_bytes(b"not a video")
    return [ListEntry(f"{index}.mp4", (index % 3,)) for index in range(5)]


def batches(entries, split=None, *, groups=None, seed=None):
    failed = []
    split = split or VideoSplitSection(**SMALL)
    readers = [(None, ClipReader({"frames": FrameOptions(reader="frames")}, split))]
    dataset = SampleDataset(entries, readers, num_classes=3, task="single_label")
    groups = ordered_groups(len(entries), split.batch_size) if groups is None else map(np.array, groups)
    found = dataset.batches(
        groups, seed=seed, on_error=lambda video, error: failed.append((video, str(error)))
    )
    return list(found), failed


def clips_of(batch):
    """The frames (N, T, H, W, 3) of a batch, bytes as they were decoded."""
    assert list(batch.inputs) == ["frames"]
    assert batch.inputs["frames"].dtype == np.uint8
    return batch.inputs["frames"]


def test_clips_come_in_order_with_labels_and_without_what_cannot_be_decoded(entries):
    found, failed = batches(entries)
    assert [batch.ids for batch in found] == [["0.mp4", "1.mp4"], ["2.mp4"], ["4.mp4"]]
    assert [batch.labels.tolist() for batch in found] == [[0, 1], [2], [1]]
    assert [clips_of(batch).shape for batch in found] == [
        (2, 3, 32, 32, 3),
        (1, 3, 32, 32, 3),
        (1, 3, 32, 32, 3),
    ]
    assert [video for video, _ in failed] == ["3.mp4"]
    frames = read_frames(entries[1], VideoSplitSection(**SMALL))
    np.testing.assert_array_equal(clips_of(found[0])[1], frames.images[frames.rows])


def test_batches_come_in_the_order_of_their_groups_and_none_for_an_unreadable_one(entries):
    found, _ = batches(entries, groups=[[2, 0], [3], [1]])
    assert [batch and batch.ids for batch in found] == [["2.mp4", "0.mp4"], None, ["1.mp4"]]


@pytest.mark.parametrize("crop", ["multiscale", "random", "center"])
def test_augmentation_follows_from_seed_and_epoch_whatever_the_number_of_threads(entries, crop):
    good = [entry for entry in entries if entry.path != "3.mp4"]
    results = []
    for threads in (1, 3):
        split = VideoTrainSection(**SMALL, crop=crop, num_reader_threads=threads)
        results.append([clips_of(b) for b in batches(good, split, seed=(7, 0), groups=[[3, 1], [0, 2]])[0]])
    for one, three in zip(*results, strict=True):
        assert np.array_equal(one, three)
    split = VideoTrainSection(**SMALL, crop=crop)
    other = clips_of(batches(good, split, seed=(7, 1), groups=[[3, 1], [0, 2]])[0][0])
    assert not np.array_equal(other, results[0][0])


def test_without_a_seed_nothing_varies(entries):
    split = VideoTrainSection(**SMALL)
    plain = clips_of(batches(entries[:2])[0][0])
    assert np.array_equal(clips_of(batches(entries[:2], split)[0][0]), plain)


def test_folders_of_frames_give_the_clips_of_their_video(work_dir):
    frames = np.zeros((8, 40, 56, 3), np.uint8)
    frames += (np.arange(8, dtype=np.uint8) * 30)[:, None, None, None]
    write_video("a.mp4", frames, fps=8)
    (work_dir / "a").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(work_dir / "a" / FRAME_NAME.format(index + 1), quality=95)
    split = VideoSplitSection(**SMALL)
    video = read_frames(ListEntry("a.mp4"), split)
    folder = read_frames(ListEntry("a", counts=(8,)), split)
    assert folder.images.shape == video.images.shape
    np.testing.assert_allclose(folder.images.mean(axis=(1, 2, 3)), video.images.mean(axis=(1, 2, 3)), atol=3)


def test_pictures_of_different_sizes_are_an_error_that_names_one(work_dir):
    (work_dir / "a").mkdir()
    for index, size in enumerate([(56, 40), (56, 56)]):
        Image.new("RGB", size).save(work_dir / "a" / FRAME_NAME.format(index + 1))
    split = VideoSplitSection(**SMALL)
    assert read_frames(ListEntry("a", counts=(2,)), split).images.shape[1:] == (32, 32, 3)
    with pytest.raises(MediaError, match=r"^a: picture 2 is 40x40 when scaled, the first 56x40; make the"):
        read_frames(ListEntry("a", counts=(2,)), split, crop=False)


def test_a_batch_is_cut_into_parts(entries):
    (batch, *_), _ = batches(entries[:3], VideoSplitSection(**SMALL | {"batch_size": 3}))
    parts = list(batch.parts(2))
    assert [part.ids for part in parts] == [["0.mp4", "1.mp4"], ["2.mp4"]]
    assert np.array_equal(np.concatenate([clips_of(part) for part in parts]), clips_of(batch))
    assert np.concatenate([part.labels for part in parts]).tolist() == [0, 1, 2]
    assert len(list(batch.parts(9))) == 3
