"""Sources of `videotag fit`: class folders, CSV, lists; groups, splits and tasks."""

from __future__ import annotations

import numpy as np
import pytest

from videotag.errors import ConfigError, FileListError
from videotag.fit.samples import assign, check_classes, read_samples
from videotag.fit.video_sources import CsvOptions


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.zeros((2, 3), np.float32))


def lists(folder, **lines):
    folder.mkdir(exist_ok=True)
    (folder / "labels.txt").write_text("cat\ndog\n", encoding="utf-8")
    for name, text in lines.items():
        (folder / f"{name}.list").write_text(text, encoding="utf-8")
        touch(*(folder.parent / line.split()[0] for line in text.splitlines()))


def test_class_folders_are_a_single_label_task(work_dir):
    touch(work_dir / "clips/cat/a.npy", work_dir / "clips/dog/b.npy")
    found = read_samples("clips")
    assert found.names == ["cat", "dog"]
    assert [(s.path, s.label_ids, s.split) for s in found.samples] == [
        ("clips/cat/a.npy", (0,), ""),
        ("clips/dog/b.npy", (1,), ""),
    ]
    assert found.task() == "single_label"


def test_folders_train_and_test_fix_the_splits(work_dir):
    touch(
        *(work_dir / f"clips/{split}/{name}/a.npy" for split in ("train", "test") for name in ("cat", "dog"))
    )
    assert [s.split for s in read_samples("clips").samples].count("test") == 2


def test_lists_fix_the_splits_and_val_joins_train(work_dir):
    lists(work_dir / "l", train="a.npy 0\n", val="b.npy 0 1\n", test="c.npy\n")
    found = read_samples("l")
    assert [(s.path, s.split) for s in found.samples] == [
        ("a.npy", "train"),
        ("b.npy", "train"),
        ("c.npy", "test"),
    ]
    assert found.task() == "multi_label"


def test_a_single_list_is_split_by_groups(work_dir):
    text = "".join(f"film{i // 4}/clip{i}.npy {i % 2}\n" for i in range(40))
    lists(work_dir / "l", all=text)
    found = read_samples("l/all.list", group_by="folder")
    samples = assign(found.samples, share=0.2, seed=0)
    tests = {s.group for s in samples if s.split == "test"}
    assert tests
    assert not tests & {s.group for s in samples if s.split == "train"}


def test_folders_train_and_val_leave_the_split_open_as_lists_do(work_dir):
    touch(
        *(work_dir / f"clips/{split}/{name}/a.npy" for split in ("train", "val") for name in ("cat", "dog"))
    )
    assert {s.split for s in read_samples("clips").samples} == {""}
    lists(work_dir / "l", train="a.npy 0\n", val="b.npy 0 1\n")
    assert {s.split for s in read_samples("l").samples} == {""}


def test_a_split_column_without_test_videos_leaves_the_split_open(work_dir):
    touch(work_dir / "a.npy", work_dir / "b.npy")
    text = "path,labels,part\na.npy,cat,train\nb.npy,dog,val\n"
    (work_dir / "all.csv").write_text(text, encoding="utf-8")
    found = read_samples("all.csv", csv_options=CsvOptions(split_column="part"))
    assert {s.split for s in found.samples} == {""}


@pytest.mark.parametrize(("share", "num_tested"), [(0.5, 20), (0.4, 20), (0.3, 13), (0.1, 4)])
def test_a_test_share_is_rounded_to_one_over_a_whole_number(work_dir, share, num_tested):
    lists(work_dir / "l", all="".join(f"{i}.npy {i % 2}\n" for i in range(40)))
    samples = assign(read_samples("l/all.list").samples, share=share, seed=0)
    assert abs(sum(s.split == "test" for s in samples) - num_tested) <= 1


def test_a_tiny_test_share_tests_one_group(work_dir):
    lists(work_dir / "l", all="".join(f"{i}.npy {i % 2}\n" for i in range(40)))
    samples = assign(read_samples("l/all.list").samples, share=5e-324, seed=0)
    assert sum(s.split == "test" for s in samples) == 1


def test_test_list_alone_record_files_and_csv_options_for_lists_are_errors(work_dir):
    lists(work_dir / "alone", test="a.npy 0\n")
    with pytest.raises(FileListError, match=r"alone/test\.list: no train\.list beside it; add one"):
        read_samples("alone")
    (work_dir / "a.tfrecord").touch()
    (work_dir / "labels.txt").write_text("cat\ndog\n", encoding="utf-8")
    (work_dir / "all.list").write_text("a.tfrecord\n", encoding="utf-8")
    with pytest.raises(FileListError, match=r"a\.tfrecord: a record file; .* one per line"):
        read_samples("all.list")
    with pytest.raises(ConfigError, match=r"all\.list: lists, but options of a CSV are given; remove them"):
        read_samples("all.list", csv_options=CsvOptions())


def test_a_video_in_two_lists_is_an_error(work_dir):
    lists(work_dir / "l", train="a.npy 0\n", test="a.npy 0\n")
    with pytest.raises(FileListError, match=r"a\.npy is listed twice with different splits; keep one line"):
        read_samples("l")
    lists(work_dir / "m", all="a.npy 0\na.npy 1\n")
    with pytest.raises(FileListError, match=r"a\.npy is listed twice with different labels; keep one line"):
        read_samples("m/all.list")


FRAMES = "for folders of frames, give the features that `videotag extract --set MODEL.format=frames` makes"


def frame_folders(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "img_00001.jpg").touch()


def test_class_folders_of_frame_folders_are_an_error_with_the_remedy(work_dir):
    frame_folders(work_dir / "clips", "cat/a", "dog/b")
    with pytest.raises(FileListError, match=f"clips/cat: no videos or features of this class, .*{FRAMES}"):
        read_samples("clips")


@pytest.mark.parametrize("text", ["cat/a 1 0\n", "cat/a 1 7\n", "cat/a 0\n"])
def test_a_list_of_frame_folders_is_an_error_with_the_remedy(work_dir, text):
    frame_folders(work_dir, "cat/a")
    (work_dir / "labels.txt").write_text("cat\ndog\n", encoding="utf-8")
    (work_dir / "all.list").write_text(text, encoding="utf-8")
    with pytest.raises(FileListError, match=f"all.list:1: cat/a: a folder, expected a video .*{FRAMES}"):
        read_samples("all.list")


def test_a_csv_of_frame_folders_is_an_error_with_the_remedy(work_dir):
    frame_folders(work_dir, "cat/a")
    (work_dir / "all.csv").write_text("path,labels\ncat/a,cat\n", encoding="utf-8")
    with pytest.raises(FileListError, match=f"all.csv:2: cat/a: a folder, expected a video .*{FRAMES}"):
        read_samples("all.csv")


def test_a_group_pattern_that_matches_nothing_or_is_broken_is_an_error(work_dir):
    lists(work_dir / "l", all="a.npy 0\n")
    with pytest.raises(FileListError, match="no match in"):
        read_samples("l/all.list", group_by="film(.)")
    with pytest.raises(ConfigError, match="not a regular expression"):
        read_samples("l/all.list", group_by="(")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.npy\nb.npy\nc.npy\n", "no video has a label"),
        ("a.npy 0\nb.npy 0\nc.npy 0\n", "all videos have the one label 'cat'"),
        ("a.npy 0\nb.npy 1\n", "2 videos in 2 groups, expected at least 3"),
    ],
)
def test_a_set_with_nothing_to_learn_is_an_error(work_dir, text, message):
    lists(work_dir / "l", all=text)
    found = read_samples("l/all.list")
    with pytest.raises(FileListError, match=message):
        check_classes(found, found.task())


def test_a_single_label_task_needs_one_label_per_video(work_dir):
    lists(work_dir / "l", all="a.npy 0 1\nb.npy 0\n")
    with pytest.raises(FileListError, match=r"a\.npy: 2 labels; 1 of the videos do not have exactly one"):
        check_classes(read_samples("l/all.list"), "single_label")


def test_one_tag_that_some_videos_lack_can_be_learned(work_dir):
    lists(work_dir / "l", all="a.npy 0\nb.npy\nc.npy\n")
    found = read_samples("l/all.list")
    check_classes(found, found.task())


def test_a_training_set_without_labels_is_an_error(work_dir):
    lists(work_dir / "l", train="a.npy\nb.npy\n", test="c.npy 0\n")
    with pytest.raises(FileListError, match="no training video has a label"):
        assign(read_samples("l").samples, share=0.2, seed=0)


def test_classes_without_another_group_leave_no_test_set(work_dir):
    lists(work_dir / "l", all="a.npy 0\nb.npy 1\n")
    found = read_samples("l/all.list")
    with pytest.raises(FileListError, match="no video for the test set: 2 videos in 2 groups"):
        assign(found.samples, share=0.2, seed=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_fifth_of_each_class_is_tested_and_a_rare_tag_stays_in_training(work_dir, seed):
    text = "".join(f"clip{i}.npy {i % 2}{' 2' if i == 7 else ''}\n" for i in range(50))
    lists(work_dir / "l", all=text)
    (work_dir / "l/labels.txt").write_text("cat\ndog\nrare\n", encoding="utf-8")
    samples = assign(read_samples("l/all.list").samples, share=0.2, seed=seed)
    tested = [sample for sample in samples if sample.split == "test"]
    assert len(tested) in (9, 10)
    assert abs(sum(0 in s.label_ids for s in tested) - len(tested) / 2) <= 1
    assert not any(2 in s.label_ids for s in tested)
