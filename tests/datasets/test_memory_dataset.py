"""Samples kept in memory give the batches of the list they came from."""

from __future__ import annotations

import numpy as np

from videotag.config import load_config
from videotag.datasets.memory_dataset import MemoryDataset
from videotag.formats.filelist import read_filelist
from videotag.inference.data import open_dataset
from videotag.models import load_models

load_models()


def both(tagger_dir):
    config = load_config("tagger.yaml")
    listed = open_dataset(config, read_filelist("features/train.list"), config.train)
    kept = MemoryDataset(listed.batches([np.arange(6), np.arange(6, 10)], on_error=print))
    return listed, kept


def equal(one, other):
    assert one.ids == other.ids
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.inputs.keys() == other.inputs.keys()
    for name, x in one.inputs.items():
        np.testing.assert_array_equal(x, other.inputs[name])


def test_batches_equal_those_of_the_list(tagger_dir):
    listed, kept = both(tagger_dir)
    groups = [np.array([7, 0, 3]), np.array([5])]
    for one, other in zip(
        listed.batches(groups, on_error=print), kept.batches(groups, on_error=print), strict=True
    ):
        equal(one, other)
    np.testing.assert_array_equal(kept.sizes, listed.sizes)


def test_a_subset_numbers_its_samples_anew(tagger_dir):
    _, kept = both(tagger_dir)
    part = kept.subset(np.array([8, 2]))
    assert len(part) == 2
    (batch,) = part.batches([np.array([1, 0])])
    (expected,) = kept.batches([np.array([2, 8])])
    equal(batch, expected)
