"""A fit into a folder with files: what of an earlier run is kept, and which files are never replaced."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main

QUICK = ["--save_dir=out", "--time=0.001s"]
pytestmark = pytest.mark.usefixtures("few_steps")


def write_list(path, files):
    """A list of features in sets/, with labels.txt beside it."""
    path.parent.mkdir(exist_ok=True)
    lines = [f"{file} {int('high' in str(file))}" for file in files]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path.with_name("labels.txt").write_text("low\nhigh\n", encoding="utf-8")


def features():
    return sorted(Path("sets").rglob("*.npy"))


@pytest.mark.parametrize("source", ["moved", "{}/moved"])
def test_a_source_that_was_moved_is_trained_on_anew(sets, source):
    assert main(["fit", "sets", *QUICK]) == 0
    (sets / "sets").rename(sets / "moved")
    assert main(["fit", source.format(sets), *QUICK]) == 0
    assert (sets / "out/fit.yaml").is_file()
    assert (sets / "out/models/logistic_regression/earlier-1").is_dir()


def test_a_damaged_digest_starts_the_training_anew(sets):
    assert main(["fit", "sets", *QUICK]) == 0
    (sets / "out/models/logistic_regression.digest").write_bytes(b"\xff\xfe")
    assert main(["fit", "sets", *QUICK]) == 0


@pytest.mark.parametrize("name", ["train.list", "test.list", "videos.list"])
def test_a_list_that_is_the_source_is_never_replaced(sets, capsys, name):
    write_list(sets / "data" / name, features())
    before = (sets / "data" / name).read_bytes()
    assert main(["fit", f"data/{name}", "--save_dir=data", "--overwrite"]) == 2
    assert f"data/{name}: is an input itself; give another --save_dir" in capsys.readouterr().err
    assert (sets / "data" / name).read_bytes() == before


def test_a_label_file_or_csv_that_is_read_is_never_replaced(sets, capsys):
    write_list(sets / "data/all.list", features())
    assert main(["fit", "sets", "--label_file=data/labels.txt", "--save_dir=data", "--overwrite"]) == 2
    assert "data/labels.txt: is an input itself; give another --save_dir" in capsys.readouterr().err
    rows = [f"{path},{path.parent.name}" for path in features()]
    (sets / "data/videos.csv").write_text("\n".join(["path,labels", *rows]), encoding="utf-8")
    (sets / "data/test.list").hardlink_to(sets / "data/videos.csv")
    assert main(["fit", "data/videos.csv", "--save_dir=data", "--overwrite"]) == 2
    assert "data/test.list: is the same file as the input data/videos.csv" in capsys.readouterr().err


def test_a_list_of_an_earlier_fit_is_never_replaced_by_a_part_of_itself(sets, capsys):
    assert main(["fit", "sets", *QUICK]) == 0
    before = (sets / "out/train.list").read_bytes()
    assert main(["fit", "out/train.list", *QUICK]) == 2
    assert "out/train.list: is an input itself; give another --save_dir" in capsys.readouterr().err
    assert (sets / "out/train.list").read_bytes() == before


def test_a_single_training_group_is_found_before_the_extraction(work_dir, capsys):
    """The videos are not even readable."""
    for name in ("train/{}/film1_a", "train/{}/film1_b", "test/{}/film2_a", "test/{}/film3_a"):
        for label in ("low", "high"):
            path = work_dir / f"clips/{name.format(label)}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert main(["fit", "clips", "--save_dir=out", r"--group_by=(film\d)"]) == 2
    assert "all 4 training videos are in one group" in capsys.readouterr().err
    assert not (work_dir / "out").exists()


def test_a_folder_with_the_tagger_of_another_source_is_refused(sets, capsys):
    assert main(["fit", "sets", *QUICK]) == 0
    before = (sets / "out/fit.yaml").read_bytes()
    shutil.copytree("sets", "others")
    assert main(["fit", "others", *QUICK]) == 2
    assert (
        f"--save_dir out: holds a tagger of {sets / 'sets'}; choose a new folder" in capsys.readouterr().err
    )
    assert (sets / "out/fit.yaml").read_bytes() == before
    assert main(["fit", "others", *QUICK, "--overwrite"]) == 0


def test_an_unfinished_fit_is_named_by_what_takes_weights(sets, capsys):
    assert main(["fit", "sets", *QUICK]) == 0
    (sets / "out/fit.yaml").unlink()
    for command in (["eval", "--save_dir=e"], ["predict", "--filelist=out/test.list"]):
        assert main([*command, "--weights=out"]) == 2
        assert (
            "out: `videotag fit` was interrupted here; run the same command again" in capsys.readouterr().err
        )


def test_all_unusable_values_are_named_at_once(sets, capsys):
    np.save("sets/low/huge.npy", np.full((2, 5), 1e20, np.float32))
    np.save("sets/low/nan.npy", np.full((2, 5), np.nan, np.float32))
    assert main(["fit", "sets", *QUICK]) == 2
    err = capsys.readouterr().err
    for name in ("low/huge.npy: a value of 1e+20", "low/nan.npy: "):
        assert f"sets/{name}" in err


def test_groups_on_both_sides_of_a_given_split_are_noted(sets, capsys):
    for split in ("train", "test"):
        shutil.copytree("sets", f"halves/{split}", ignore=lambda *_: [])
    for path in (sets / "halves").rglob("*.npy"):
        if ("a.npy" in path.name) == ("train" in path.parts):
            path.unlink()
    assert main(["fit", "halves", *QUICK, r"--group_by=(film\d+)"]) == 0
    text = capsys.readouterr()
    # Near-duplicates may have merged two groups.
    assert re.search(r"groups in both training and test set: 2[34], the first is 'film00'", text.out)
