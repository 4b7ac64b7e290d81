"""The dataset of a list whose samples have several fields."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.datasets.sample_dataset import SampleDataset
from videotag.errors import ConfigError, FileListError
from videotag.formats.filelist import ListEntry
from videotag.inputs.features import FeatureOptions, FeatureReader
from videotag.inputs.frames import ClipReader, FrameOptions
from videotag.sections import SplitSection, VideoSplitSection


class OptionalReader(FeatureReader):
    is_optional = True


def reader(cls, name):
    return cls({name: FeatureOptions(reader="features", width=2)}, SplitSection())


def dataset_of(entries, readers):
    return SampleDataset(entries, readers, num_classes=3, task="multi_label")


def test_sizes_are_those_of_the_longest_sequence_where_samples_lack_a_field(work_dir):
    for rows in (2, 3, 5):
        np.save(f"{rows}.npy", np.ones((rows, 2), np.float32))
    entries = [
        ListEntry("a", (), fields={"rgb": "2.npy"}),
        ListEntry("b", (), fields={"rgb": "3.npy", "audio": "5.npy"}),
        ListEntry("c", (), fields={"rgb": "5.npy", "audio": "2.npy"}),
    ]
    readers = [(None, reader(FeatureReader, "rgb")), (None, reader(OptionalReader, "audio"))]
    assert dataset_of(entries, readers).sizes.tolist() == [2, 5, 5]
    alone = dataset_of(entries, [(None, reader(OptionalReader, "audio"))])
    assert alone.sizes.tolist() == [0, 5, 2]


def test_a_list_of_paths_has_one_field_only(work_dir):
    np.save("a.npy", np.ones((2, 2), np.float32))
    rgb, audio = (reader(FeatureReader, name) for name in ("rgb", "audio"))
    assert len(dataset_of([ListEntry("a.npy")], [(None, rgb)])) == 1
    with pytest.raises(FileListError, match=r"^a\.npy: only a path, .* fields rgb, audio; .*JSON lines"):
        dataset_of([ListEntry("a.npy")], [(None, rgb), (None, audio)])


def test_inputs_of_one_field_share_a_format():
    options = {name: FrameOptions(reader="frames", format=name) for name in ("video", "frames")}
    with pytest.raises(ConfigError, match=r"^INPUTS\.frames\.format: frames, but INPUTS\.video .* as video"):
        ClipReader(options, VideoSplitSection())
