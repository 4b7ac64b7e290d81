"""What the check finds in features, alone and between files."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from videotag.cli.main import main
from videotag.fit import check as engine
from videotag.formats.feature_files import write_features

STAMP = {"extractor": "TSN/resnet50", "seg_num": 300, "weights_sha256": "ab"}


def save(path, array, **stamp):
    write_features(path, np.asarray(array, np.float32), stamp={**stamp, "input": {"name": path}})


def ramp(first, num_rows=3, width=2):
    """Rows that are neither zero nor equal, and differ with `first`."""
    return first + 1 + np.arange(num_rows * width, dtype=np.float32).reshape(num_rows, width)


@pytest.fixture
def clean(work_dir):
    """features/a.npy to d.npy with 3 to 6 rows; train.list names a and b, val.list c and d."""
    for index, name in enumerate("abcd"):
        save(f"features/{name}.npy", ramp(10 * index, num_rows=3 + index), **STAMP)
    Path("train.list").write_text("features/a.npy 0\nfeatures/b.npy 1\n", encoding="utf-8")
    Path("val.list").write_text("# none\nfeatures/c.npy 0\nfeatures/d.npy 1\n", encoding="utf-8")
    return work_dir


def run(capsys, *argv):
    code = main(["check", *argv, "--json"])
    printed = capsys.readouterr()
    assert printed.err == ""
    return code, json.loads(printed.out)


def problems(capsys, *argv):
    """(kind, text) of every problem."""
    code, found = run(capsys, *argv)
    assert code == (1 if found["problems"] else 0)
    return [(problem["kind"], problem["text"]) for problem in found["problems"]]


@pytest.mark.parametrize("argv", [("train.list", "val.list"), ("features",), ("features", "--dim=2")])
def test_clean_features_have_no_problems_and_are_counted(clean, capsys, argv):
    code, found = run(capsys, *argv)
    assert code == 0
    assert found == {
        "num_files": 4,
        "num_usable": 4,
        "num_problems": {},
        "modalities": {
            "": {"num_files": 4, "num_rows": {"min": 3, "median": 4.5, "max": 6}, "widths": {"2": 4}}
        },
        "extractors": [{"num_files": 4, "stamp": STAMP}],
        "problems": [],
        "near_duplicates": [],
    }


def test_the_table_shows_the_same(clean, capsys):
    np.save("features/e.npy", np.ones((4, 2), np.float32))
    assert main(["check", "features"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "files 5, usable 5"
    assert lines[2].split() == ["modality", "files", "T", "min", "median", "max", "widths", "(files)"]
    assert lines[3].split() == ["-", "5", "3", "4", "6", "2", "(5)"]
    assert lines[4] == f"made by: {json.dumps(STAMP)}: 4 files"
    assert lines[5] == "made by: no stamp: 1 files"
    assert lines[7].startswith("features/e.npy: all 4 rows are equal")
    assert lines[8] == "problems: constant 1"


def test_every_problem_of_one_file_is_named(clean, capsys):
    bad = {"dead": [[1, 2], [0, 0], [0, 0]], "constant": [[1, 2]] * 3, "wide": [[1, 2, 3], [4, 5, 6]]}
    bad["nan"] = [[1, np.nan], [1, 2]]
    for name, array in bad.items():
        save(f"features/{name}.npy", array, **STAMP)
    Path("features/empty.npy").touch()
    with Path("train.list").open("a", encoding="utf-8") as file:
        file.write("".join(f"features/{name}.npy\n" for name in [*bad, "empty", "gone"]))
    assert problems(capsys, "train.list", "--dim=2") == [
        ("missing", "features/gone.npy: no such file; extract the features first, or correct the path"),
        (
            "unusable",
            "features/empty.npy: empty; extract the features with tsn_extractor.py or numpy.save",
        ),
        (
            "width",
            "features/wide.npy: shape (2, 3), expected (T, 2); was it extracted with another backbone?",
        ),
        ("not_finite", "features/nan.npy: 1 of 2 rows hold NaN or infinite values; extract it again"),
        (
            "dead_rows",
            "features/dead.npy: 2 of 3 rows are all zero, the first is row 1;"
            " remove them, or extract it again",
        ),
        (
            "constant",
            "features/constant.npy: all 3 rows are equal, as for a still image; check the video",
        ),
    ]


def test_without_dim_the_usual_width_is_expected(clean, capsys):
    save("features/wide.npy", ramp(0, width=5), **STAMP)
    assert problems(capsys, "features") == [
        (
            "width",
            "features/wide.npy: shape (3, 5), but 4 of 5 files are 2 wide; extract it with the same backbone",
        )
    ]


def test_one_row_is_not_constant_and_rows_of_zeros_alone_are_reported_once(work_dir, capsys):
    save("one.npy", [[1, 2]])
    save("zero.npy", [[0, 0], [0, 0]])
    assert [kind for kind, _ in problems(capsys, ".")] == ["dead_rows"]


def test_equal_values_are_found_whatever_type_and_stamp(clean, capsys):
    np.save("features/e.npy", np.asfortranarray(ramp(0).astype(np.float64)))
    assert problems(capsys, "features") == [
        (
            "duplicate",
            "features/e.npy (features): the same values as features/a.npy (features); remove one of the two",
        )
    ]


def test_equal_values_of_another_shape_are_no_duplicates(work_dir, capsys):
    save("a.npy", ramp(0, num_rows=2, width=3))
    save("b.npy", ramp(0, num_rows=3, width=2))
    assert [kind for kind, _ in problems(capsys, ".")] == ["width"]


def test_a_video_in_two_splits_is_named_by_path_and_by_values(clean, capsys):
    save("features/copy.npy", ramp(0), **STAMP)
    with Path("val.list").open("a", encoding="utf-8") as file:
        file.write(f"{clean}/features/b.npy 1\nfeatures/copy.npy 0\n./features/c.npy 0\n")
    assert problems(capsys, "train.list", "val.list") == [
        ("duplicate", "features/c.npy: listed 2 times: val.list:2, val.list:6; keep one"),
        ("leak", "features/b.npy: in several splits: train.list:2, val.list:4; keep it in one"),
        (
            "leak",
            "features/copy.npy (val.list:5): the same values as features/a.npy (train.list:1),"
            " in another split; keep one of the two",
        ),
    ]


def test_features_of_two_extractors_are_named_with_what_differs(clean, capsys):
    save("features/e.npy", ramp(99), **{**STAMP, "seg_num": 100})
    assert problems(capsys, "features") == [
        (
            "mixed_extractors",
            "features/e.npy: made by a different extractor than features/a.npy: seg_num 100 vs. 300;"
            " 1 of the former, 4 of the latter; extract all files again with one of the two",
        )
    ]


def test_modalities_of_an_npz_are_checked_each(work_dir, capsys):
    np.savez("a.npz", rgb=ramp(0), audio=np.zeros((2, 3), np.float32))
    np.savez("b.npz", rgb=ramp(5), audio=ramp(1, width=4))
    assert problems(capsys, ".", "--dim=rgb=2,audio=3") == [
        ("width", "b.npz[audio]: shape (3, 4), expected (T, 3); was it extracted with another backbone?"),
        (
            "dead_rows",
            "a.npz[audio]: 2 of 2 rows are all zero, the first is row 0; remove them, or extract it again",
        ),
    ]
    _, found = run(capsys, ".")
    assert {name: row["widths"] for name, row in found["modalities"].items()} == {
        "audio": {"3": 1, "4": 1},
        "rgb": {"2": 2},
    }


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["gone"], "gone: no such file or folder; check the path"),
        (["empty"], "empty: no .npy or .npz in this folder or below it; extract some first"),
        (["features/a.npy"], "features/a.npy: a feature file; give its folder, or a list of such files"),
        (["bad.list"], "bad.list:1: label 'x' is not an integer"),
        (["features", "--dim=0"], "argument --dim: '0': expected widths such as 2048 or rgb=2048,audio=128"),
        (["features", "--dim=rgb=1,2"], "argument --dim: 'rgb=1,2': expected widths"),
        (["features", "--dim=a=1,a=2"], "argument --dim: 'a=1,a=2': expected widths"),
        (["features", "--threads=0"], "argument --threads: '0' is not an integer of at least 1"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(clean, capsys, argv, message):
    Path("empty").mkdir()
    Path("bad.list").write_text("a.npy x\n", encoding="utf-8")
    assert main(["check", *argv]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"videotag check: {message}")
    assert printed.err.count("\n") == 1


def test_ctrl_c_ends_with_130(clean, capsys, monkeypatch):
    def interrupted(path, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "check_file", interrupted)
    assert main(["check", "features"]) == 130
    assert capsys.readouterr().err == "videotag check: interrupted\n"


def test_memory_holds_a_file_per_thread_not_all(work_dir):
    for index in range(40):
        save(f"{index}.npy", ramp(index, num_rows=64, width=1024))  # 256 KiB each, 10 MiB together
    main(["check", ".", "--threads=1"])  # imports
    tracemalloc.start()
    assert main(["check", ".", "--threads=1"]) == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 256 * 1024


@given(
    features=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=4),
        elements=st.sampled_from([0.0, -0.0, 1.0, 2.0]),
    )
)
def test_dead_rows_and_constant_videos_against_plain_loops(features):
    rows = features.tolist()
    dead = [row for row in rows if all(value == 0 for value in row)]
    constant = not dead and len(rows) > 1 and all(row == rows[0] for row in rows)
    found = engine.check_values(features, "a.npy", place="a.npy")
    assert [problem.category for problem in found] == ["dead_rows"] * bool(dead) + ["constant"] * constant


# --- near-duplicates ------------------------------------------------------------------------------------


@pytest.fixture
def similar(work_dir):
    """train.list with a0 to a9, val.list with b0 to b2; b1 is a noisy copy of a4."""
    rng = np.random.default_rng(0)
    centers = {f"a{i}": rng.random(64) for i in range(10)} | {f"b{i}": rng.random(64) for i in range(3)}
    centers["b1"] = centers["a4"]
    for name, center in centers.items():
        save(f"{name}.npy", center + 0.05 * rng.standard_normal((8, 64)))
    for split, first in (("train", "a"), ("val", "b")):
        names = sorted(name for name in centers if name[0] == first)
        Path(f"{split}.list").write_text("".join(f"{name}.npy 0\n" for name in names), encoding="utf-8")
    return work_dir


def test_nearly_the_same_videos_in_two_lists_are_a_warning(similar, capsys):
    code, found = run(capsys, "train.list", "val.list")
    assert (code, found["problems"]) == (0, [])
    (near,) = found["near_duplicates"]
    assert near["paths"] == ["a4.npy", "b1.npy"]
    assert near["places"] == ["train.list:5", "val.list:2"]
    assert 0.93 < near["similarity"] < 1
    assert main(["check", "train.list", "val.list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "warning: 1 pair of nearly the same videos in different lists: a4.npy (train.list:5) and b1.npy"
        " (val.list:2); the metrics may be too good; keep copies and clips of one scene in one list, as"
        " --group_by of `videotag lists` does",
        "problems: none",
    ]


def test_the_warning_counts_all_pairs_and_names_the_first(similar, capsys):
    for index in range(4):
        save(f"c{index}.npy", np.load("a4.npy") + 0.01 * index + 0.01)
    Path("test.list").write_text("".join(f"c{i}.npy 0\n" for i in range(4)), encoding="utf-8")
    _, found = run(capsys, "train.list", "val.list", "test.list")
    pairs = [near["paths"] for near in found["near_duplicates"]]
    assert len(pairs) == 9, "a4 and b1, and each of c0 to c3 with both"
    assert main(["check", "train.list", "val.list", "test.list"]) == 0
    line = capsys.readouterr().out.splitlines()[-2]
    assert line.startswith("warning: 9 pairs of nearly the same videos in different lists: ")
    assert line.count(" and ") == 3 + 1, "three pairs; 'copies and clips'"
    assert ", ...; the metrics" in line


def test_videos_of_one_list_are_no_near_duplicates(similar, capsys):
    Path("all.list").write_text(
        Path("train.list").read_text() + Path("val.list").read_text(), encoding="utf-8"
    )
    assert run(capsys, "all.list")[1]["near_duplicates"] == []


def test_equal_videos_are_a_leak_alone(similar, capsys):
    np.save("b2.npy", np.load("a7.npy"))
    code, found = run(capsys, "train.list", "val.list")
    assert code == 1
    assert [problem["kind"] for problem in found["problems"]] == ["leak"]
    assert [near["paths"] for near in found["near_duplicates"]] == [["a4.npy", "b1.npy"]]


def test_modalities_weigh_the_same_in_near_duplicates(work_dir, capsys):
    rng = np.random.default_rng(0)
    for split, names in (("train", "abcdef"), ("val", "uvw")):
        for name in names:
            rgb, audio = rng.random((4, 64)), 1e6 * rng.random((4, 32))
            if name == "u":  # the picture of a with another sound
                rgb = np.load("a.npz")["rgb"]
            if name == "w":  # the sound of c with another picture
                audio = np.load("c.npz")["audio"]
            if name == "v":  # a copy of b
                rgb, audio = (0.01 * rng.random() + np.load("b.npz")[key] for key in ("rgb", "audio"))
            np.savez(f"{name}.npz", rgb=rgb, audio=audio)
        Path(f"{split}.list").write_text("".join(f"{name}.npz 0\n" for name in names), encoding="utf-8")
    (near,) = run(capsys, "train.list", "val.list")[1]["near_duplicates"]
    assert near["paths"] == ["b.npz", "v.npz"]


def test_files_of_other_widths_are_compared_among_themselves(similar, capsys):
    save("wide.npy", np.ones((2, 65)))
    with Path("val.list").open("a", encoding="utf-8") as file:
        file.write("wide.npy 0\n")
    code, found = run(capsys, "train.list", "val.list")
    assert code == 1
    assert [near["paths"] for near in found["near_duplicates"]] == [["a4.npy", "b1.npy"]]
