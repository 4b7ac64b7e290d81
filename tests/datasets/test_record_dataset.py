"""Videos of files of records: bytes stay bytes, labels come along, bad ones are left out or end the run."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.datasets import record_dataset as records
from videotag.datasets.order import ordered_groups, shuffled_groups
from videotag.datasets.record_dataset import RecordDataset
from videotag.errors import ConfigError, RecordError
from videotag.formats.record_files import open_record_file
from videotag.formats.yt8m_pickles import write_yt8m_pickle
from videotag.formats.yt8m_records import YT8MRecord, write_yt8m

DIMS = {"rgb": 4, "audio": 2}


def record(i, **changes):
    features = {"rgb": np.full((i % 3 + 1, 4), i, np.uint8), "audio": np.full((i % 3 + 1, 2), i, np.uint8)}
    values = {"video_id": f"v{i}", "labels": np.array([i % 5, 5]), "features": features, **changes}
    return YT8MRecord(**values)


@pytest.fixture
def paths(work_dir):
    """Four files of five records each, every second one packed."""
    names = [f"{f}.tfrecord" for f in range(4)]
    for f, name in enumerate(names):
        write_yt8m(name, [record(5 * f + i) for i in range(5)], compression="gzip" if f % 2 else None)
    return names


def dataset(paths, **options):
    values = {"dims": DIMS, "num_classes": 6, "task": "multi_label", "shuffle_buffer": 6, "num_threads": 2}
    values["batch_size"] = 3
    return RecordDataset(paths, **{**values, **options})


def refuse(video, error):
    raise error


def test_batches_are_padded_bytes_with_masks_and_labels(paths):
    found = list(dataset(paths).batches(ordered_groups(20, 3), on_error=refuse))
    assert [video for batch in found for video in batch.ids] == [f"v{i}" for i in range(20)]
    first = found[0]
    assert first.inputs["rgb"].dtype == np.uint8
    assert first.inputs["rgb"][:, :, 0].tolist() == [[0, 0, 0], [1, 1, 0], [2, 2, 2]]
    assert first.inputs["audio"].shape == (3, 3, 2)
    assert first.inputs["rgb.mask"].sum(axis=1).tolist() == [1, 2, 3]
    assert first.labels.tolist() == [[1, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 1], [0, 0, 1, 0, 0, 1]]


def test_shuffled_is_a_permutation_that_goes_through_the_files_one_after_the_other(paths):
    data = dataset(paths)
    order = data.shuffled(np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(20))
    assert order.tolist() == data.shuffled(np.random.default_rng(0)).tolist()
    assert order.tolist() != data.shuffled(np.random.default_rng(1)).tolist()
    # A record moves 6 places at most, so that a file of 5 is done within 5 + 2 * 6 places.
    places = np.argsort(order).reshape(4, 5)
    assert (places.max(axis=1) - places.min(axis=1) <= 16).all()


def test_the_order_of_the_files_changes_from_epoch_to_epoch(paths):
    data = dataset(paths, shuffle_buffer=1)
    starts = {tuple(data.shuffled(np.random.default_rng([0, epoch]))[::5] // 5) for epoch in range(10)}
    assert len(starts) > 5


def test_video_level_records_are_one_step(work_dir):
    means = [{"mean_rgb": np.full(4, i, np.float32), "mean_audio": np.ones(2, np.float32)} for i in range(3)]
    write_yt8m("a.tfrecord", [record(i, features={}, means=means[i]) for i in range(3)])
    (batch,) = dataset(["a.tfrecord"], dims={"mean_rgb": 4, "mean_audio": 2}).batches(
        ordered_groups(3, 3), on_error=refuse
    )
    assert batch.inputs["mean_rgb"].shape == (3, 1, 4)
    assert batch.inputs["mean_rgb"].dtype == np.float32
    assert batch.inputs["mean_rgb"][:, 0, 0].tolist() == [0, 1, 2]


def test_a_damaged_record_is_left_out_and_named(paths, work_dir):
    data = dataset(paths)
    content = bytearray((work_dir / "2.tfrecord").read_bytes())
    content[-20] ^= 255  # in the data of the last record
    (work_dir / "2.tfrecord").write_bytes(content)
    failed = []
    found = list(
        data.batches(ordered_groups(20, 7), on_error=lambda video, error: failed.append((video, error)))
    )
    assert sum(len(batch.ids) for batch in found) == 19
    ((video, error),) = failed
    assert video == "2.tfrecord: record 4"
    assert "2.tfrecord: record 4 at byte" in str(error)
    assert "wrong checksum of the data" in str(error)


def test_a_damaged_first_record_is_left_out_like_any_other(paths, work_dir):
    content = bytearray((work_dir / "0.tfrecord").read_bytes())
    content[14] ^= 255  # in the data of the first record
    (work_dir / "0.tfrecord").write_bytes(content)
    failed = []
    found = list(
        dataset(paths).batches(ordered_groups(20, 20), on_error=lambda video, error: failed.append(video))
    )
    assert len(found[0].ids) == 19
    assert failed == ["0.tfrecord: record 0"]


def test_a_group_of_which_nothing_can_be_read_gives_no_batch(work_dir):
    empty = {"rgb": np.zeros((0, 4), np.uint8), "audio": np.zeros((0, 2), np.uint8)}
    write_yt8m("a.tfrecord", [record(0), record(1, features=empty), record(2)])
    failed = []
    found = list(
        dataset(["a.tfrecord"]).batches(
            ordered_groups(3, 1), on_error=lambda video, error: failed.append(str(error))
        )
    )
    assert [batch and batch.ids for batch in found] == [["v0"], None, ["v2"]]
    assert failed == ["a.tfrecord: record 1 (v1): no steps of rgb, audio; leave the video out"]


def test_what_the_model_cannot_take_is_an_error_before_work(paths, work_dir):
    with pytest.raises(ConfigError, match=r"0\.tfrecord: record 0 \(v0\): label 5, expected 0 to 4; correct"):
        dataset(paths, num_classes=5)
    with pytest.raises(RecordError, match=r"rgb of shape \(1, 4\), expected \(T, 8\)"):
        dataset(paths, dims={"rgb": 8})
    with pytest.raises(RecordError, match=r"no features flow; found rgb, audio"):
        dataset(paths, dims={"flow": 8})
    with pytest.raises(RecordError, match=r"2 labels, expected 1; for several set MODEL\.task=multi_label"):
        dataset(paths, task="single_label")
    write_yt8m("none.tfrecord", [])
    with pytest.raises(RecordError, match=r"none\.tfrecord: no records"):
        dataset(["none.tfrecord"])


def test_a_label_beyond_the_classes_ends_the_run_wherever_it_stands(work_dir):
    write_yt8m("a.tfrecord", [record(0), record(1, labels=np.array([17]))])
    batches = dataset(["a.tfrecord"]).batches(ordered_groups(2, 1), on_error=lambda video, error: None)
    next(batches)
    with pytest.raises(ConfigError, match="label 17, expected 0 to 5"):
        next(batches)


def test_the_digest_tells_data_apart(paths):
    assert dataset(paths).digest == dataset(paths).digest
    assert dataset(paths).digest != dataset(paths[:3]).digest


def test_records_without_labels_are_errors_where_labels_are_needed(work_dir):
    write_yt8m("a.tfrecord", [record(0), record(1, labels=np.array([], int)), record(2)])
    failed = []
    data = dataset(["a.tfrecord"], needs_labels=True)
    note = lambda video, error: failed.append(str(error))  # noqa: E731
    assert [b.ids for b in data.batches(ordered_groups(3, 3), on_error=note)] == [["v0", "v2"]]
    assert "a.tfrecord: record 1 (v1): no label; train and evaluate on" in failed[0]
    (batch,) = dataset(["a.tfrecord"]).batches(ordered_groups(3, 3), on_error=refuse)
    assert batch.labels[1].tolist() == [0] * 6
    write_yt8m("a.tfrecord", [record(1, labels=np.array([], int))])
    with pytest.raises(RecordError, match="no label"):
        dataset(["a.tfrecord"], needs_labels=True)


def test_one_name_of_bytes_here_and_of_numbers_there_is_an_error(work_dir):
    means = {"rgb": np.ones(4, np.float32), "audio": np.ones(2, np.float32)}
    write_yt8m("a.tfrecord", [record(0)])
    write_yt8m("b.tfrecord", [record(1, features={}, means=means)])
    data = dataset(["a.tfrecord", "b.tfrecord"])
    with pytest.raises(RecordError, match=r"record 0 \(v1\): rgb is float32, but uint8 in the first"):
        list(data.batches(ordered_groups(2, 2), on_error=refuse))


def test_files_that_must_be_held_whole_are_opened_once_an_epoch(work_dir, monkeypatch):
    names = [f"{f:02}.pkl" for f in range(40)]
    for f, name in enumerate(names):
        write_yt8m_pickle(name, [record(5 * f + i) for i in range(5)])
    opened = []
    monkeypatch.setattr(
        records, "open_record_file", lambda path, *args: opened.append(path) or open_record_file(path, *args)
    )
    data = dataset(names, shuffle_buffer=10, batch_size=2)
    opened.clear()
    rng = np.random.default_rng(0)
    groups = shuffled_groups(data.shuffled(rng), 2, rng, sizes=data.sizes)
    assert sum(len(b.ids) for b in data.batches(groups, on_error=refuse)) == 200
    assert len(opened) <= 40


def test_a_file_that_cannot_be_opened_gives_every_record_an_error_of_its_own(work_dir):
    write_yt8m_pickle("a.pkl", [record(i) for i in range(3)])
    write_yt8m_pickle("b.pkl", [record(i) for i in range(3)])
    data = dataset(["a.pkl", "b.pkl"])
    (work_dir / "b.pkl").write_bytes(b"damaged")
    failed = []
    note = lambda video, error: failed.append(error)  # noqa: E731
    list(data.batches(ordered_groups(6, 1), on_error=note))
    assert len(failed) == len({id(error) for error in failed}) == 3
    assert len({str(error) for error in failed}) == 1
