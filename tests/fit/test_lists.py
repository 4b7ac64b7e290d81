"""Lists from folders and CSVs: what comes into which split, and what is refused."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videotag.cli.main import main
from videotag.errors import FileListError
from videotag.fit import lists as engine
from videotag.fit.splits import SPLITS, assign_splits, hash_point
from videotag.fit.video_sources import CsvOptions, Video, videos_in_csv, videos_in_folder
from videotag.formats.filelist import read_filelist
from videotag.labels import read_labels

RATIOS = (0.8, 0.1, 0.1)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0\n"), min_size=1, max_size=5)


def touch(*paths):
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def lists(out_dir="out"):
    """Path -> label names, by split."""
    names = read_labels(f"{out_dir}/labels.txt")
    return {
        split: {
            entry.path: [names[i] for i in entry.label_ids]
            for entry in read_filelist(f"{out_dir}/{split}.list", labels="required", num_classes=len(names))
        }
        for split in SPLITS
        if Path(out_dir, f"{split}.list").exists()
    }


def run(capsys, *argv):
    code = main(["lists", *map(str, argv)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def refused(capsys, *argv):
    """The lines of a refusal, which writes nothing."""
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert not Path("out").exists()
    assert err.startswith("videotag lists: ")
    return err.removeprefix("videotag lists: ").splitlines()


# --- splits ---------------------------------------------------------------------------------------------


def groups_of_labels(max_groups=40):
    label_sets = st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=3)
    return st.dictionaries(st.text(max_size=6), label_sets, max_size=max_groups)


ALL_RATIOS = st.sampled_from([RATIOS, (0.6, 0.2, 0.2), (0.5, 0.0, 0.5), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])


@given(groups=groups_of_labels(), ratios=ALL_RATIOS, seed=st.integers(0, 3))
def test_every_label_is_in_train_and_no_split_without_a_share_gets_anything(groups, ratios, seed):
    splits = assign_splits(groups, ratios, seed=seed)
    assert splits.keys() == groups.keys()
    assert {SPLITS.index(split) for split in splits.values()} <= {i for i in range(3) if ratios[i]}
    if ratios[0]:
        in_train = {label for group, labels in groups.items() if splits[group] == "train" for label in labels}
        assert in_train == {label for labels in groups.values() for label in labels}


@given(groups=groups_of_labels(), order=st.randoms(use_true_random=False), seed=st.integers(0, 3))
def test_the_order_of_groups_decides_nothing(groups, order, seed):
    shuffled = list(groups)
    order.shuffle(shuffled)
    again = assign_splits({group: sorted(groups[group]) for group in shuffled}, RATIOS, seed=seed)
    assert again == assign_splits(groups, RATIOS, seed=seed)


def test_a_hash_point_is_the_same_on_every_machine():
    # printf '0\\0film' | sha256sum -> 91348b6535260b7b...
    assert hash_point("film", 0) == pytest.approx(0x91348B6535260B7B / 2**64, rel=1e-15)
    assert hash_point("film", 0) != hash_point("film", 1)


def test_splits_follow_the_ratios():
    splits = list(assign_splits({f"film{i}": "a" for i in range(5000)}, RATIOS).values())
    # standard deviation of a share of 0.1 over 5,000 is 21
    assert [splits.count(name) for name in SPLITS] == pytest.approx([4000, 500, 500], abs=90)


def test_groups_added_later_move_no_old_ones_of_labels_that_are_everywhere():
    old = {f"film{i}": {f"label{i % 5}"} for i in range(1000)}
    new = old | {f"new{i}": {f"label{i % 7}"} for i in range(1000)}
    before, after = assign_splits(old, RATIOS), assign_splits(new, RATIOS)
    assert {group: after[group] for group in old} == before


def test_a_larger_share_of_train_only_takes_from_the_others():
    groups = {f"film{i}": {"a"} for i in range(1000)}
    small, large = assign_splits(groups, (0.7, 0.2, 0.1)), assign_splits(groups, (0.8, 0.1, 0.1))
    assert all(large[group] == "train" for group in groups if small[group] == "train")
    assert all(large[group] == "test" for group in groups if small[group] == "test")


@pytest.mark.parametrize("seed", range(30))
def test_a_label_with_enough_groups_is_in_every_split(seed):
    groups = {f"{label}{i}": {label} for label in "abc" for i in range(5)}  # a tenth of 5 rounds to 1
    found = defaultdict(set)
    for group, split in assign_splits(groups, RATIOS, seed=seed).items():
        found[group[0]].add(split)
    assert found == {label: set(SPLITS) for label in "abc"}


@pytest.mark.parametrize("seed", range(30))
def test_a_rare_label_stays_in_train_where_its_share_of_the_others_rounds_to_nothing(seed):
    groups = {f"common{i}": {"common"} for i in range(50)} | {f"rare{i}": {"rare"} for i in range(4)}
    splits = assign_splits(groups, RATIOS, seed=seed)
    by_hash = [group for group in groups if group.startswith("rare") and hash_point(group, seed) < 0.8]
    in_train = [group for group in groups if group.startswith("rare") and splits[group] == "train"]
    assert set(by_hash) <= set(in_train)
    assert in_train


# --- folders --------------------------------------------------------------------------------------------


@pytest.fixture
def clips(work_dir):
    """Three classes of 20 videos: ten films of two clips each."""
    for label in ("cat", "dog", "鲸 fish"):
        touch(*(f"clips/{label}/{label[0]}film{film}/{i}.mp4" for film in range(10) for i in range(2)))
    return work_dir


def test_folders_become_lists_that_hold_every_video_once(clips, capsys):
    code, out, err = run(capsys, "clips", "out")
    assert (code, err) == (0, "")
    found = lists()
    assert sorted(path for split in found.values() for path in split) == sorted(
        str(path) for path in Path("clips").rglob("*.mp4")
    )
    assert all(labels == [Path(path).parts[1]] for split in found.values() for path, labels in split.items())
    assert read_labels("out/labels.txt") == ["cat", "dog", "鲸 fish"]
    assert f"out/val.list: {len(found['val'])} videos in {len(found['val'])} groups" in out
    assert "labels without a video in train: none" in out


def test_group_by_folder_keeps_a_film_in_one_split(clips, capsys):
    assert run(capsys, "clips", "out", "--group_by", "folder")[0] == 0
    splits = defaultdict(set)
    for split, videos in lists().items():
        for path in videos:
            splits[Path(path).parent.name].add(split)
    assert len(splits) == 30
    assert all(len(found) == 1 for found in splits.values())


def test_a_films_folder_is_one_group_in_all_classes_and_a_video_without_one_is_its_own(work_dir):
    touch("clips/cat/film1/a.mp4", "clips/dog/film1/b.mp4", "clips/dog/c.mp4", "clips/dog/d.mp4")
    videos, _, problems = videos_in_folder(Path("clips"), group_by="folder")
    assert [video.group for video in videos] == ["film1", "dog/c", "dog/d", "film1"]
    assert problems == []


def test_group_by_expression_takes_its_first_parentheses_or_all_of_it(work_dir):
    touch("clips/cat/f1_a.mp4", "clips/dog/f1_b.mp4", "clips/dog/f22_b.mp4")
    for pattern, groups in ((r"/(f\d+)_", ["f1", "f1", "f22"]), (r"f\d", ["f1", "f1", "f2"])):
        videos, _, _ = videos_in_folder(Path("clips"), group_by=pattern)
        assert [video.group for video in videos] == groups


def test_features_come_into_the_split_of_the_video_of_their_name(clips, capsys):
    for path in list(Path("clips").rglob("*.mp4")):
        touch(Path("features", *path.with_suffix(".npy").parts[1:]))
    assert run(capsys, "clips", "out")[0] == 0
    assert run(capsys, "features", "out2")[0] == 0
    of_videos = {name: {str(Path(p).with_suffix("")) for p in found} for name, found in lists().items()}
    of_features = {
        name: {str(Path("clips", *Path(p).with_suffix("").parts[1:])) for p in found}
        for name, found in lists("out2").items()
    }
    assert of_videos == of_features


def test_hidden_and_other_files_are_left_out_and_the_others_counted(work_dir):
    touch("clips/cat/a.MP4", "clips/cat/._a.mp4", "clips/cat/.x/b.mp4", "clips/.git/c.mp4", "clips/cat/a.txt")
    touch("clips/README", "clips/.hidden", "clips/cat/x/b.TXT", "clips/cat/x/b.rmvb")
    videos, left_out, problems = videos_in_folder(Path("clips"))
    assert [video.path for video in videos] == ["clips/cat/a.MP4", "clips/cat/x/b.rmvb"]
    assert left_out == {".txt": 2, "": 1}
    assert problems == []


@pytest.mark.parametrize(("suffix", "noun"), [("mp4", "videos"), ("npy", "feature files")])
def test_the_summary_says_which_files_of_the_folder_were_left_out(work_dir, capsys, suffix, noun):
    touch(
        "clips/cat/a.srt", "clips/cat/a.txt", "clips/notes.txt", *(f"clips/cat/{i}.{suffix}" for i in "abc")
    )
    code, out, _ = run(capsys, "clips/", "out", "--split=1,0,0")
    assert code == 0
    assert out.splitlines()[-1] == f"clips: 3 {noun}; 3 files left out (.txt 2, .srt 1)"


def test_nothing_is_said_where_no_file_is_left_out(clips, capsys):
    assert "left out" not in run(capsys, "clips", "out")[1]


def test_a_folder_without_videos_says_what_is_in_it(work_dir, capsys):
    touch("clips/a.txt", "clips/b.txt", "clips/.c.mp4")
    assert refused(capsys, "clips", "out") == [
        "clips: no videos or features, 2 files left out (.txt 2); expected clips/CLASS/NAME.mp4"
    ]
    Path("empty/cat").mkdir(parents=True)
    assert refused(capsys, "empty", "out") == [
        "empty/cat: no videos or features of this class, no files; add some, or move the folder away"
    ]


def test_all_problems_of_a_folder_are_reported_together(work_dir, capsys):
    touch("clips/top.mp4", "clips/cat/a.mp4", "clips/cat/b.npy", "clips/dog/readme.txt", "clips/cat/x\ny.mp4")
    assert refused(capsys, "clips", "out", "--group_by", "cat/([a-b])") == [
        r"clips/cat/x\ny.mp4: --group_by 'cat/([a-b])': no match in 'cat/x\ny.mp4'; correct the "
        "expression",
        "clips/dog: no videos or features of this class, 1 file left out (.txt 1); add some, or move the "
        "folder away",
        "clips/top.mp4: not in a class folder; move it into one",
        "clips/cat/b.npy: features, but clips/cat/a.mp4 is a video; make a list for each",
    ]


def test_a_name_no_list_can_hold_is_refused(work_dir, capsys):
    touch("clips/cat/x\ny.mp4")
    (line,) = refused(capsys, "clips", "out")
    assert line.startswith("'clips/cat/x\\ny.mp4': a list cannot hold")


# --- CSV ------------------------------------------------------------------------------------------------


def write_csv(text, name="videos.csv", encoding="utf-8"):
    Path(name).write_bytes(text.encode(encoding))
    return name


def read_csv(text, *, encoding="utf-8", group_by=None, **options):
    path = Path(write_csv(text, encoding=encoding))
    videos, problems = videos_in_csv(path, CsvOptions(**options), group_by=group_by)
    assert problems == []
    return videos


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_cell_holds_several_labels(work_dir, encoding):
    touch("a.mp4", "b, c.mp4")
    text = 'labels,path,other\r\n猫| big dog |,a.mp4,x\r\n\r\n"dog","b, c.mp4",\r\n'
    videos = read_csv(text, encoding=encoding)
    assert [(video.path, video.labels) for video in videos] == [
        ("a.mp4", ("猫", "big dog")),
        ("b, c.mp4", ("dog",)),
    ]
    assert [video.place for video in videos] == ["videos.csv:2", "videos.csv:4"]


def test_semicolons_and_tabs_in_cells_separate_nothing(work_dir):
    touch("a;b.mp4")
    (video,) = read_csv("path,labels\na;b.mp4,big;dog\tx\n")
    assert (video.path, video.labels) == ("a;b.mp4", ("big;dog\tx",))
    (video,) = read_csv("path,a;b\na;b.mp4,cat\n", label_columns=("a;b",))
    assert video.labels == ("cat",)


def test_labels_may_stand_in_several_columns_of_different_or_the_same_name(work_dir):
    touch("a.mp4")
    text = "path,tag,tag,colour\na.mp4,cat,dog,red;cat\n"
    (video,) = read_csv(text, label_columns=("tag", "colour"), separator=";")
    assert video.labels == ("cat", "dog", "red")


def test_groups_of_a_csv(work_dir):
    touch("x/1/a.mp4", "x/2/b.mp4", "c.mp4")
    text = "path,labels,film\n1/a.mp4,l,one\n2/b.mp4,l,one\n../c.mp4,l,two\n"
    assert [v.group for v in read_csv(text, root="x", group_column="film")] == ["one", "one", "two"]
    assert [v.group for v in read_csv(text, root="x", group_by="folder")] == ["1", "2", ".."]
    assert [v.group for v in read_csv(text, root="x")] == ["1/a", "2/b", "../c"]
    assert [v.path for v in read_csv(text, root="x")] == ["x/1/a.mp4", "x/2/b.mp4", "x/../c.mp4"]


def test_a_path_in_a_csv_that_is_too_long_for_the_system_is_one_short_line(work_dir, capsys):
    write_csv(f"path,labels\n{'a' * 5000}.mp4,cat\n")
    (line,) = refused(capsys, "videos.csv", "out")
    assert line.startswith("videos.csv:2: aaa")
    assert "...: no such file; relative paths start at " in line
    assert len(line) < 500 + len(str(work_dir))


def test_all_problems_of_a_csv_are_reported_together(work_dir, capsys):
    touch("a.mp4", "b.mp4", "c.mp4")
    rows = ["a.mp4,x,1", "gone.mp4,x,1", ",x,1", "b.mp4,|,1", "c.mp4,x,", "b.mp4,x", "./a.mp4,y,1"]
    write_csv("path,labels,film\n" + "\n".join(rows))
    assert refused(capsys, "videos.csv", "out", "--group_column=film") == [
        f"videos.csv:3: gone.mp4: no such file; relative paths start at {work_dir}, see --root",
        "videos.csv:4: column 'path' is empty; write the path of the video",
        "videos.csv:5: b.mp4: no label in labels; write one, or remove the row",
        "videos.csv:6: column 'film' is empty; write the group of the video",
        "videos.csv:7: 2 cells, expected 3 as in the header; quote cells that hold a comma",
        "videos.csv:8: ./a.mp4 is also at videos.csv:2; merge their labels",
    ]


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("", (), "videos.csv:1: no column 'path'; the header is ''; correct it, or name the columns with"),
        ("a.mp4,cat\n", (), "videos.csv:1: no column 'path'; the header is 'a.mp4,cat'"),
        ("path,labels\n", (), "videos.csv: no rows below the header; write a row per video"),
        ("path,path,labels\n", (), "videos.csv:1: 2 columns 'path'; rename all but one of them"),
        ("path,labels\n", ("--group_column=film",), "videos.csv:1: no column 'film'; the header is"),
        ('path,labels\n"a"b,c\n', (), "videos.csv:2: not a CSV ("),
        (
            "path;labels\na.mp4;cat\n",
            (),
            "videos.csv:1: semicolons between the columns in 'path;labels'; save the CSV with commas",
        ),
        (
            '"path";"labels"\r\n"a.mp4";"cat"\r\n',
            (),
            "videos.csv:1: semicolons between the columns in '\"path",
        ),
        ("path\tlabels\na.mp4\tcat\n", (), "videos.csv:1: tabs between the columns in 'path\\tlabels'; save"),
        ("path|labels\na.mp4|cat\n", (), "videos.csv:1: vertical bars between the columns in 'path|labels'"),
        (
            "path,labels\na.mp4;cat\n",
            (),
            "videos.csv:2: semicolons between the cells in 'a.mp4;cat'; save the CSV with commas",
        ),
        ("path,labels\n", ("--separator=",), "--separator: empty; give a separator"),
        ("path,labels\n", ("--group_by=x", "--group_column=y"), "--group_by and --group_column: both define"),
        ("path,labels\na.mp4,x\n", ("--group_by=(",), "--group_by '(': not a regular expression ("),
        (
            "path,labels\na.mp4,x\n",
            (),
            "val: empty, as the first group of every label goes to train",
        ),
        ("path,labels\na.mp4,x\n", ("--split=1,1,1",), "argument --split: '1,1,1' is not three fractions"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(work_dir, capsys, text, flags, message):
    touch("a.mp4")
    write_csv(text)
    assert refused(capsys, "videos.csv", "out", *flags)[0].startswith(message)


def test_a_csv_of_another_encoding_is_refused_with_the_command_that_converts_it(work_dir, capsys):
    write_csv("path,labels\na.mp4,视频标签\n", encoding="gbk")
    (line,) = refused(capsys, "videos.csv", "out")
    assert line.startswith("videos.csv:2: not UTF-8, probably GBK; convert it: iconv")


def test_flags_of_a_csv_are_refused_for_a_folder_and_a_missing_source_is_named(clips, capsys):
    (line,) = refused(capsys, "clips", "out", "--root=x", "--label_column=y")
    assert line == "--label_column, --root: for a CSV, but clips is a folder; remove it"
    (line,) = refused(capsys, "clips/cat/cfilm0/0.mp4", "out")
    assert line.endswith("0.mp4: a single file; give a CSV, or the folder with the class folders")
    (line,) = refused(capsys, "gone", "out")
    assert line == "gone: no such file or folder; check the path"


# --- labels and output ----------------------------------------------------------------------------------


def test_a_label_file_keeps_its_ids(clips, capsys):
    Path("mine.txt").write_text("鲸 fish\nbird\ndog\ncat\n", encoding="utf-8")
    code, out, _ = run(capsys, "clips", "out", "--label_file=mine.txt")
    assert code == 0
    assert read_labels("out/labels.txt") == ["鲸 fish", "bird", "dog", "cat"]
    assert all(
        labels == [Path(path).parts[1]] for found in lists().values() for path, labels in found.items()
    )
    assert "labels without any video: 1 (bird)" in out


def test_labels_the_file_does_not_name_are_listed_all(clips, capsys):
    Path("mine.txt").write_text("cat\ndogs\ncat\n", encoding="utf-8")
    assert refused(capsys, "clips", "out", "--label_file=mine.txt") == [
        "mine.txt: lacks 2 labels: 'dog' (clips/dog/dfilm0/0.mp4, did you mean 'dogs'?), "
        "'鲸 fish' (clips/鲸 fish/鲸film0/0.mp4); correct them, or append them to the file",
        "mine.txt: 'cat' names 2 classes; rename all but one of them",
    ]


def test_a_second_run_does_not_change_the_ids_of_the_first(clips, capsys):
    assert run(capsys, "clips", "out")[0] == 0
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    assert run(capsys, "clips", "out")[0] == 0
    touch("clips/bird/a.mp4")
    code, _, err = run(capsys, "clips", "out")
    assert code == 2
    assert "out/labels.txt: holds other classes; keep their ids with --label_file out/labels.txt" in err
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before


def test_a_list_of_an_earlier_run_does_not_stay_beside_new_ones(clips, capsys):
    assert run(capsys, "clips", "out")[0] == 0
    code, _, err = run(capsys, "clips", "out", "--split=0.9,0.1,0")
    assert (code, err) == (
        2,
        "videotag lists: out/test.list: from an earlier run, but now test gets no videos; remove it\n",
    )


def unchanged(capsys, *argv):
    """The lines of a refusal that leaves OUT_DIR as it is."""
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before
    return err.removeprefix("videotag lists: ").splitlines()


def test_lists_of_the_user_are_replaced_by_overwrite_alone(clips, capsys):
    Path("out").mkdir()
    Path("out/train.list").write_text("clips/cat/a.mp4 0\n")
    (line,) = unchanged(capsys, "clips", "out")
    assert line == (
        "out/train.list: exists and is not as `videotag lists` wrote it; give another OUT_DIR, or --overwrite"
    )
    assert run(capsys, "clips", "out", "--overwrite")[0] == 0
    with Path("out/val.list").open("a") as file:
        file.write("# a remark of mine\n")
    assert unchanged(capsys, "clips", "out")[0].startswith("out/val.list: exists and is not as `videotag")


def test_a_rerun_replaces_lists_as_it_left_them_with_more_videos_and_other_splits(clips, capsys):
    assert run(capsys, "clips", "out")[0] == 0
    touch(*(f"clips/cat/new{i}.mp4" for i in range(9)))
    for seed in (0, 1):
        assert run(capsys, "clips", "out", f"--seed={seed}")[0] == 0
    assert sum(map(len, lists().values())) > 9


def test_a_run_killed_between_its_files_goes_on(clips, capsys, monkeypatch):
    assert run(capsys, "clips", "out")[0] == 0
    touch(*(f"clips/cat/new{i}.mp4" for i in range(9)))
    write_text = engine.write_text
    for number in range(1, 4):
        left = iter([True] * number)

        def killed(path, text, left=left):
            if not next(left, False):
                raise KeyboardInterrupt
            write_text(path, text)

        with monkeypatch.context() as patch:
            patch.setattr(engine, "write_text", killed)
            assert run(capsys, "clips", "out", "--seed=1")[0] == 130
        assert run(capsys, "clips", "out", "--seed=1")[0] == 0
        assert run(capsys, "clips", "out")[0] == 0


def test_labels_of_the_user_are_replaced_by_overwrite_alone(clips, capsys):
    Path("mine.txt").write_text("鲸 fish\ndog\ncat\n", encoding="utf-8")
    Path("out").mkdir()
    Path("out/labels.txt").write_text("one\ntwo\n", encoding="utf-8")
    (line,) = unchanged(capsys, "clips", "out", "--label_file=mine.txt")
    assert line.startswith("out/labels.txt: exists and is not as `videotag lists` wrote it")
    assert run(capsys, "clips", "out", "--label_file=mine.txt", "--overwrite")[0] == 0
    assert read_labels("out/labels.txt") == ["鲸 fish", "dog", "cat"]


def test_an_input_is_never_replaced(clips, capsys):
    Path("out").mkdir()
    first = next(Path("clips").rglob("*.mp4"))
    os.link(first, "out/train.list")
    for more in ([], ["--overwrite"]):
        (line,) = unchanged(capsys, "clips", "out", *more)
        assert line == f"out/train.list: is the same file as the input {first}; give another OUT_DIR"
    Path("out/train.list").unlink()
    Path("out/labels.txt").write_text("# 1\ncat\ndog\n鲸 fish\n", encoding="utf-8")
    before = Path("out/labels.txt").read_bytes()
    assert run(capsys, "clips", "out", "--label_file=out/labels.txt")[0] == 0
    assert Path("out/labels.txt").read_bytes() == before, "the label file itself stays as it is"


@pytest.mark.parametrize("record", ["[]", "{", '{"train.list": 3}'])
def test_a_damaged_record_makes_files_foreign(clips, capsys, record):
    assert run(capsys, "clips", "out")[0] == 0
    Path("out/.lists.json").write_text(record)
    assert run(capsys, "clips", "out")[0] == 0, "the same lists"
    Path("out/.lists.json").write_text(record)
    assert "not as `videotag lists` wrote it" in unchanged(capsys, "clips", "out", "--seed=5")[0]


def test_a_record_that_is_a_pipe_is_none(tmp_path):
    os.mkfifo(tmp_path / engine.RECORD_FILE)
    reader = multiprocessing.get_context("spawn").Process(target=engine.read_record, args=(tmp_path,))
    reader.start()
    reader.join(60)
    code = reader.exitcode
    reader.kill()
    assert code == 0


def test_summary_counts_labels_by_split_and_names_those_a_split_lacks(work_dir, capsys):
    touch(*(f"clips/many/{i}.mp4" for i in range(20)), "clips/one/a.mp4")
    code, out, _ = run(capsys, "clips", "out")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["id", "train", "val", "test", "label"]
    assert rows[2] == ["1", "1", "0", "0", "one"]
    assert rows[1][0] == "0"
    assert sum(map(int, rows[1][1:4])) == 20
    assert "labels without a video in train: none\nlabels without a video in val: 1 (one)" in out


# --- splits that the source fixes -----------------------------------------------------------------------


def paths_of(found):
    return {split: sorted(videos) for split, videos in found.items()}


def test_folders_of_splits_fix_the_splits(work_dir, capsys):
    touch(*(f"ucf/{split}/{label}/{i}.mp4" for split in SPLITS for label in ("cat", "dog") for i in range(3)))
    touch("ucf/readme.txt", "ucf/.x/a.mp4")
    code, out, _ = run(capsys, "ucf", "out")
    assert code == 0
    assert paths_of(lists()) == {
        split: [f"ucf/{split}/{label}/{i}.mp4" for label in ("cat", "dog") for i in range(3)]
        for split in SPLITS
    }
    assert lists()["val"]["ucf/val/dog/1.mp4"] == ["dog"]
    assert read_labels("out/labels.txt") == ["cat", "dog"]
    assert out.splitlines()[0] == "ucf: splits fixed by the names of its folders"
    assert out.splitlines()[-1] == "ucf: 18 videos; 1 file left out (.txt 1)"
    assert "warning" not in out, "equal names in two splits are two videos"


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation"])
def test_every_name_of_a_split_is_known(work_dir, capsys, name):
    touch("ucf/TRAIN/cat/a.mp4", f"ucf/{name}/cat/b.mp4")
    assert run(capsys, "ucf", "out")[0] == 0
    assert paths_of(lists()) == {"train": ["ucf/TRAIN/cat/a.mp4"], "val": [f"ucf/{name}/cat/b.mp4"]}


def test_a_class_called_train_beside_others_is_a_class(work_dir, capsys):
    touch("clips/train/a.mp4", "clips/bus/b.mp4")
    code, out, _ = run(capsys, "clips", "out", "--split=1,0,0")
    assert code == 0
    assert read_labels("out/labels.txt") == ["bus", "train"]
    assert "splits fixed" not in out


def test_problems_of_folders_of_splits_are_reported_together(work_dir, capsys):
    touch("ucf/train/cat/a.mp4", "ucf/train/b.mp4", "ucf/c.mp4", "ucf/test/cat/notes.txt")
    Path("ucf/val").mkdir()
    assert refused(capsys, "ucf", "out") == [
        "ucf/c.mp4: not in the folder of a split; move it into one",
        "ucf/test/cat: no videos or features of this class, 1 file left out (.txt 1); add some, or move the"
        " folder away",
        "ucf/train/b.mp4: not in a class folder; move it into one; ucf/train is the folder of a split by its"
        " name",
        "ucf/val: no videos or features, no files; expected ucf/val/CLASS/NAME.mp4",
    ]


def test_a_column_fixes_the_splits(work_dir, capsys):
    touch("a.mp4", "b.mp4", "c.mp4", "d.mp4")
    rows = ["a.mp4,cat|dog,train", "b.mp4,dog, VALID ", "c.mp4,cat,test", "d.mp4,dog,Train"]
    write_csv("path,labels,part\n" + "\n".join(rows))
    code, out, _ = run(capsys, "videos.csv", "out", "--split_column=part")
    assert code == 0
    assert lists() == {
        "train": {"a.mp4": ["cat", "dog"], "d.mp4": ["dog"]},
        "val": {"b.mp4": ["dog"]},
        "test": {"c.mp4": ["cat"]},
    }
    assert out.splitlines()[0] == "videos.csv: splits fixed by column part"


def test_a_value_that_is_no_split_is_a_line(work_dir, capsys):
    touch("a.mp4", "b.mp4", "c.mp4")
    write_csv("path,labels,part\na.mp4,cat,train\nb.mp4,cat,trian\nc.mp4,cat,\n")
    assert refused(capsys, "videos.csv", "out", "--split_column=part") == [
        "videos.csv:3: column 'part': 'trian' is no split; write train, val or test",
        "videos.csv:4: column 'part' is empty; write train, val or test",
    ]
    (line,) = refused(capsys, "videos.csv", "out", "--split_column=gone")
    assert line.startswith("videos.csv:1: no column 'gone'; the header is 'path,labels,part'; correct it")
    assert line.endswith("--split_column")


@pytest.mark.parametrize("flags", [("--split=0.8,0.1,0.1",), ("--seed=0",), ("--split=1,0,0", "--seed=3")])
def test_shares_and_seed_contradict_fixed_splits(work_dir, capsys, flags):
    touch("ucf/train/cat/a.mp4", "ucf/test/cat/b.mp4")
    write_csv("path,labels,part\nucf/train/cat/a.mp4,cat,train\n")
    names = ", ".join(flag.partition("=")[0] for flag in flags)
    (line,) = refused(capsys, "ucf", "out", *flags)
    assert line == f"{names}: the source fixes the splits (ucf/test/cat/b.mp4 is in test); remove the flag"
    (line,) = refused(capsys, "videos.csv", "out", "--split_column=part", *flags)
    assert line == f"{names}: the source fixes the splits (videos.csv:2 is in train); remove the flag"


def test_a_split_column_is_refused_for_a_folder(work_dir, capsys):
    touch("ucf/train/cat/a.mp4")
    (line,) = refused(capsys, "ucf", "out", "--split_column=part")
    assert line == "--split_column: for a CSV, but ucf is a folder; remove it"


def test_a_group_in_two_fixed_splits_is_a_warning(work_dir, capsys):
    touch("ucf/train/cat/film1/a.mp4", "ucf/test/dog/film1/b.mp4", "ucf/train/dog/film2/c.mp4")
    touch("ucf/train/cat/x.mp4", "ucf/test/cat/x.mp4")
    code, out, _ = run(capsys, "ucf", "out", "--group_by=folder")
    assert code == 0
    assert (
        "warning: 1 group is in several splits, the first is 'film1' in train (ucf/train/cat/film1/a.mp4) and"
        " test (ucf/test/dog/film1/b.mp4); the metrics may be too good; move each group to one split\n"
    ) in out
    assert "ucf/test/cat/x.mp4" in lists()["test"]
    code, out, _ = run(capsys, "ucf", "out2", "--group_by=film|x")
    assert "warning: 2 groups are in several splits, the first is 'film' in train" in out


def test_a_group_column_goes_with_a_split_column(work_dir, capsys):
    touch("a.mp4", "b.mp4", "c.mp4")
    write_csv("path,labels,film,part\na.mp4,cat,f1,val\nb.mp4,cat,f1,train\nc.mp4,cat,f2,train\n")
    code, out, _ = run(capsys, "videos.csv", "out", "--split_column=part", "--group_column=film")
    assert code == 0
    assert "warning: 1 group is in several splits, the first is 'f1' in train (videos.csv:3) and val" in out
    assert "out/train.list: 2 videos in 2 groups" in out


def test_a_list_of_a_split_that_the_source_no_longer_fixes_does_not_stay(work_dir, capsys):
    touch("ucf/train/cat/a.mp4", "ucf/test/cat/b.mp4")
    assert run(capsys, "ucf", "out")[0] == 0
    Path("ucf/test/cat/b.mp4").rename("ucf/train/cat/b.mp4")
    Path("ucf/test/cat").rmdir()
    Path("ucf/test").rmdir()
    (line,) = unchanged(capsys, "ucf", "out")
    assert line == "out/test.list: from an earlier run, but now test gets no videos; remove it"


def test_the_record_of_the_tool_before_is_honoured_and_replaced(clips, capsys):
    assert run(capsys, "clips", "out")[0] == 0
    Path("out/.lists.json").rename("out/.make_filelist.json")
    assert run(capsys, "clips", "out", "--seed=1")[0] == 0
    assert not Path("out/.make_filelist.json").exists()
    assert run(capsys, "clips", "out", "--seed=2")[0] == 0


@given(names=st.sets(NAMES, min_size=1, max_size=30), random_state=st.randoms(use_true_random=False))
def test_lists_hold_any_name_and_every_video_once(tmp_path_factory, names, random_state: random.Random):
    videos = [
        Video(f"clips/{name}.mp4", (random_state.choice("abc"),), name[:1], name) for name in sorted(names)
    ]
    out_dir = tmp_path_factory.mktemp("out")
    split = engine.split_videos(videos, (1.0, 0.0, 0.0), seed=0)
    engine.write_lists(out_dir, split, ["c", "b", "a"], may_replace_labels=False)
    found = read_filelist(out_dir / "train.list", must_exist=False)
    assert [(entry.path, ["cba"[i] for i in entry.label_ids]) for entry in found] == [
        (video.path, list(video.labels)) for video in videos
    ]


@given(films=st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc")), min_size=40, max_size=80))
def test_no_group_is_in_two_splits(films):
    videos = [Video(f"{i}.mp4", (label,), f"{film}", "") for i, (film, label) in enumerate(films)]
    try:
        found = engine.split_videos(videos, (0.6, 0.2, 0.2), seed=0)
    except FileListError:  # too few films for three splits
        return
    groups = [{video.group for video in split} for split in found.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert sum(map(len, found.values())) == len(videos)
