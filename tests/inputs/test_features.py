"""Batches: padded to their own longest, masked, in order, read ahead."""

from __future__ import annotations

import threading
from pathlib import Path

from videotag.system.quiet_paddle import paddle

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.datasets.batches import cut_rows, label_array
from videotag.datasets.order import ordered_groups
from videotag.datasets.prefetch import prefetch
from videotag.datasets.sample_dataset import SampleDataset
from videotag.errors import FeatureFileError
from videotag.formats.feature_files import write_features
from videotag.formats.filelist import ListEntry
from videotag.inputs.features import FeatureOptions, FeatureReader, as_declared, check_features, pad
from videotag.registry import ArraySpec
from videotag.sections import SplitSection


def test_sequences_are_padded_with_zeros_behind_their_ends():
    padded, mask = pad([np.ones((1, 2)), np.full((3, 2), 2.0)])
    assert padded.tolist() == [[[1, 1], [0, 0], [0, 0]], [[2, 2], [2, 2], [2, 2]]]
    assert mask.tolist() == [[True, False, False], [True, True, True]]
    assert (padded.dtype, mask.dtype) == (np.float32, np.bool_)


def test_labels_become_zeros_and_ones():
    assert label_array([(0, 2), ()], 3, "multi_label").tolist() == [[1, 0, 1], [0, 0, 0]]


@pytest.fixture
def entries(work_dir):
    """Five files; file i holds i + 1 rows of the value i."""
    for i in range(5):
        np.save(f"{i}.npy", np.full((i + 1, 2), i, np.float32))
    return [ListEntry(f"{i}.npy", (i % 3,)) for i in range(5)]


def test_one_wrong_width_of_all_files_is_one_line_with_the_first_and_a_count(entries):
    paths = [entry.path for entry in entries]
    with pytest.raises(FeatureFileError) as caught:
        check_features(paths, {"rgb": 3})
    assert str(caught.value) == (
        "0.npy: shape (1, 2), expected (T, 3), and 4 more of this width; were they extracted with another "
        "backbone?"
    )


def test_two_wrong_widths_are_two_lines(entries):
    np.save("3.npy", np.zeros((2, 7), np.float32))
    with pytest.raises(FeatureFileError) as caught:
        check_features([entry.path for entry in entries], {"rgb": 3})
    first, second = str(caught.value).splitlines()
    assert "0.npy: shape (1, 2), expected (T, 3), and 3 more of this width; " in first
    assert second == "3.npy: shape (2, 7), expected (T, 3); was it extracted with another backbone?"


def test_one_problem_of_many_files_is_one_line_and_others_have_their_own(work_dir):
    paths = [f"gone{n}.npy" for n in range(300)]
    Path("text.npy").write_text("text", encoding="utf-8")
    with pytest.raises(FeatureFileError) as caught:
        check_features([*paths, "text.npy"], {"rgb": 3})
    first, second = str(caught.value).splitlines()
    assert first.startswith("gone0.npy and 299 more: no such file; extract the features first")
    assert second.startswith("text.npy: not a .npy file")


def refuse(video, error):
    raise error


def make_dataset(entries, dims):
    inputs = {name: FeatureOptions(reader="features", width=width) for name, width in dims.items()}
    readers = [(None, FeatureReader(inputs, SplitSection()))]
    return SampleDataset(entries, readers, num_classes=3, task="multi_label")


def batches(entries, groups, *, dims=None, on_error=refuse):
    dataset = make_dataset(entries, dims or {"rgb": 2})
    return list(dataset.batches(groups, on_error=on_error))


def test_no_video_is_dropped_and_each_batch_is_cut_to_its_own_longest(entries):
    found = batches(entries, ordered_groups(5, 2))
    assert [b.ids for b in found] == [["0.npy", "1.npy"], ["2.npy", "3.npy"], ["4.npy"]]
    assert [b.inputs["rgb"].shape for b in found] == [(2, 2, 2), (2, 4, 2), (1, 5, 2)]
    assert found[1].inputs["rgb.mask"].sum(axis=1).tolist() == [3, 4]
    assert found[2].labels.tolist() == [[0, 1, 0]]


def test_each_part_of_a_batch_is_cut_to_its_own_longest(entries):
    (batch,) = batches(entries, ordered_groups(5, 5))
    parts = list(batch.parts(2))
    assert [part.ids for part in parts] == [["0.npy", "1.npy"], ["2.npy", "3.npy", "4.npy"]]
    assert [part.inputs["rgb"].shape for part in parts] == [(2, 2, 2), (3, 5, 2)]
    assert [part.inputs["rgb.mask"].sum(axis=1).tolist() for part in parts] == [[1, 2], [3, 4, 5]]
    assert parts[1].labels.tolist() == batch.labels[2:].tolist()


@pytest.mark.parametrize("to", [np.asarray, paddle.to_tensor])
def test_rows_are_cut_modality_by_modality_and_never_to_nothing(to):
    inputs = {
        "rgb": to(np.ones((3, 4, 2), np.float32)),
        "rgb.mask": to(np.arange(4) < np.array([[4], [3], [1]])),
        "audio": to(np.ones((3, 2, 1), np.float32)),
        "audio.mask": to(np.zeros((3, 2), bool)),
    }
    rows = cut_rows(inputs, slice(1, 3))
    assert [tuple(rows[name].shape) for name in ("rgb", "audio")] == [(2, 3, 2), (2, 1, 1)]
    assert rows["rgb.mask"].tolist() == [[True, True, True], [True, False, False]]
    assert rows["audio.mask"].tolist() == [[False], [False]]


def test_what_a_model_declares_is_taken_and_bytes_become_numbers_that_are_zero_where_masked():
    inputs = {
        "rgb": np.array([[[0], [255], [0]]], np.uint8),
        "rgb.mask": np.array([[True, True, False]]),
        "audio": np.ones((1, 1, 2), np.float32),
        "frames": np.array([[[0, 255]]], np.uint8),
    }
    specs = [ArraySpec("frames", (None, None, 2), "uint8"), ArraySpec("rgb", (None, None, 1))]
    found = as_declared(inputs, specs)
    assert list(found) == ["frames", "rgb"]
    assert found["frames"] is inputs["frames"]
    assert found["rgb"].dtype == np.float32
    assert found["rgb"][:, :, 0].tolist() == [[4 / 512 - 2, 4 / 512 + 2, 0.0]]  # YouTube-8M's two ends


def test_batches_come_in_the_order_of_their_groups(entries):
    found = batches(entries, [np.array([4, 0]), np.array([3, 1])])
    assert [b.ids for b in found] == [["4.npy", "0.npy"], ["3.npy", "1.npy"]]


def test_a_file_that_is_bad_when_it_is_read_is_raised_or_left_out(entries, work_dir):
    dataset = make_dataset(entries, {"rgb": 2})
    (work_dir / "1.npy").write_bytes(b"")
    with pytest.raises(FeatureFileError, match=r"1\.npy: empty"):
        list(dataset.batches(ordered_groups(5, 1), on_error=refuse))
    bad = []
    found = list(dataset.batches(ordered_groups(5, 1), on_error=lambda video, error: bad.append(video)))
    assert [b and b.ids[0] for b in found] == ["0.npy", None, "2.npy", "3.npy", "4.npy"]
    assert bad == ["1.npy"]


def test_the_sizes_are_the_steps_and_the_digest_tells_lists_apart(entries):
    dataset = make_dataset(entries, {"rgb": 2})
    assert dataset.sizes.tolist() == [1, 2, 3, 4, 5]
    other = make_dataset(entries[:4], {"rgb": 2})
    assert dataset.digest != other.digest


def stamped(path, **stamp):
    write_features(path, np.ones((2, 2), np.float32), stamp={**stamp, "input": {"size": len(path)}})
    return path


def test_features_of_one_extractor_and_those_without_a_stamp_may_be_mixed(entries):
    check_features(
        [*(entry.path for entry in entries), stamped("a.npy", seg_num=3), stamped("bb.npy", seg_num=3)],
        {"rgb": 2},
    )


def test_features_of_two_extractors_are_an_error_that_names_both_and_what_differs(entries):
    mixed = [
        *(entry.path for entry in entries),
        stamped("a.npy", extractor="TSN/resnet50", seg_num=300, scale=1),
        stamped("b.npy", extractor="TSN/resnet50", seg_num=100, crop=[1, 2]),
        stamped("c.npy", extractor="TSN/resnet50", seg_num=300, scale=1),
    ]
    with pytest.raises(FeatureFileError) as caught:
        check_features(mixed, {"rgb": 2})
    assert str(caught.value) == (
        "b.npy: made by a different extractor than a.npy: crop [1, 2] vs. (missing), "
        "scale (missing) vs. 1, seg_num 100 vs. 300; 1 of the former, 2 of the latter; "
        "extract all files again with one of the two"
    )


def test_every_further_extractor_and_every_bad_file_has_a_line(work_dir):
    mixed = [stamped(f"{i}.npy", weights_sha256=f"{i}" * 64) for i in range(3)]
    with pytest.raises(FeatureFileError) as caught:
        check_features([*mixed, "gone.npy"], {"rgb": 2})
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["gone.npy", "1.npy", "2.npy"]
    assert f'weights_sha256 "{"2" * 64}" vs. "{"0" * 64}";' in lines[2]


def test_train_refuses_lists_that_two_extractors_made(tagger_dir, capsys):
    for split, seg_num in (("train", 300), ("val", 100)):
        for path in (tagger_dir / "features").glob(f"{split}*.npy"):
            write_features(path, np.load(path), stamp={"seg_num": seg_num, "input": {"name": path.name}})
    assert main(["train", "--config=tagger.yaml", "--save_dir=out", "--label_file=labels.txt"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "videotag train: features/val0.npy: made by a different extractor than features/train0.npy: "
        "seg_num 100 vs. 300; 5 of the former, 10 of the latter; extract all files again with one of the two"
    )


def test_modalities_of_an_npz_keep_their_own_lengths(work_dir):
    np.savez("a.npz", rgb=np.ones((3, 2), np.float32), audio=np.ones((5, 1), np.float32))
    dims = {"audio": 1, "rgb": 2}
    (batch,) = batches([ListEntry("a.npz")], ordered_groups(1, 4), dims=dims)
    assert {name: x.shape for name, x in batch.inputs.items()} == {
        "audio": (1, 5, 1),
        "audio.mask": (1, 5),
        "rgb": (1, 3, 2),
        "rgb.mask": (1, 3),
    }


def test_prefetch_keeps_the_order_and_runs_only_so_far_ahead():
    begun = []
    results = prefetch(lambda i: begun.append(i) or i * i, range(50), num_threads=2, ahead=4)
    assert next(results) == 0
    assert len(begun) <= 4
    assert list(results) == [i * i for i in range(1, 50)]


def test_prefetch_raises_an_error_where_its_result_would_have_come():
    results = prefetch(lambda i: 1 // (2 - i), range(5), num_threads=3, ahead=3)
    assert next(results) == 0
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_prefetch_drops_waiting_calls_when_the_consumer_stops():
    gate, begun = threading.Event(), []

    def work(i):
        begun.append(i)
        if i:
            gate.wait(10)
        return i

    results = prefetch(work, range(10), num_threads=1, ahead=5)
    assert next(results) == 0
    gate.set()
    results.close()
    assert len(begun) < 6


def test_prefetch_tells_running_calls_to_stop_before_it_waits_for_them():
    stop = threading.Event()
    results = prefetch(lambda i: i or stop.wait(10), range(1, 4), num_threads=1, ahead=1, stop=stop)
    assert next(results) == 1
    results.close()
    assert stop.is_set()

    def interrupted(i):
        if i == 0:
            raise KeyboardInterrupt
        return stop.wait(10)

    stop.clear()
    with pytest.raises(KeyboardInterrupt):
        next(prefetch(interrupted, range(2), num_threads=2, ahead=2, stop=stop))
    assert stop.is_set()
