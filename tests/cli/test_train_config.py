"""What train takes from the label file and the features, and where the config or the user insists."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.config import load_config

TRAIN = ["train", "--config=tagger.yaml", "--save_dir=ck"]


@pytest.fixture
def train(tagger_dir, capsys):
    """train("--epoch=1", code=2): runs train in tagger_dir; what it says on stderr."""

    def run(*words, code=0):
        assert main([*TRAIN, *words]) == code
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return err

    return run


def edit(old, new):
    text = Path("tagger.yaml").read_text(encoding="utf-8")
    assert old in text
    Path("tagger.yaml").write_text(text.replace(old, new), encoding="utf-8")


def write_features(width, *, only=None):
    for path in sorted(Path("features").glob(only or "*.npy")):
        np.save(path, np.ones((3, width), np.float32))


def ran():
    return load_config("ck/config.yaml").model


# --- classes --------------------------------------------------------------------------------------------


def test_the_label_file_decides_the_number_of_classes(train):
    Path("six.txt").write_text("a\nb\nc\nd\ne\nf\n", encoding="utf-8")
    err = train("--label_file=six.txt")
    assert "MODEL.num_classes: 6 of six.txt instead of 4 of tagger.yaml\n" in err
    assert ran().num_classes == 6
    again = train("--label_file=six.txt", "--resume", "--epoch=3")  # the same command line
    assert "MODEL.num_classes: 6 of six.txt" in again
    assert ran().num_classes == 6


def test_a_label_file_of_set_decides_too_and_a_fitting_one_is_not_mentioned(train):
    assert "MODEL.num_classes" not in train("--set=model.label_file=labels.txt")
    assert ran().label_file == "labels.txt"


def test_a_config_without_a_number_of_classes_takes_that_of_its_label_file(train):
    edit("  num_classes: 4\n", "  label_file: labels.txt\n")
    train()
    assert ran().num_classes == 4


@pytest.mark.parametrize("how", ["--pretrain=ck", "--set=TRAIN.pretrain=ck", "yaml"])
def test_the_label_file_decides_where_training_starts_from_weights_too(train, how):
    train()
    Path("six.txt").write_text("a\nb\nc\nd\ne\nf\n", encoding="utf-8")
    if how == "yaml":
        edit("TRAIN: {", "TRAIN: {pretrain: ck, ")
    words = [how] if how.startswith("--") else []
    err = train("--label_file=six.txt", "--save_dir=more", *words)
    assert "MODEL.num_classes: 6 of six.txt instead of 4 of tagger.yaml\n" in err
    assert load_config("more/config.yaml").model.num_classes == 6


@pytest.mark.parametrize("how", ["--set=MODEL.num_classes=4", "own"])
@pytest.mark.parametrize("weights", [[], ["--pretrain=x"]], ids=["new", "pretrained"])
def test_a_number_of_classes_that_somebody_insists_on_is_an_error_that_names_the_key(train, how, weights):
    Path("two.txt").write_text("a\nb\n", encoding="utf-8")
    if how == "own":
        edit("  num_classes: 4\n", "  num_classes: 4\n  label_file: labels.txt\n")
    words = [how] if how.startswith("--") else []
    err = train("--label_file=two.txt", *words, *weights, code=2)
    assert "two.txt: 2 names, expected num_classes 4; " in err
    assert err.endswith("or set MODEL.num_classes=2\n")
    assert not Path("ck").exists()


def test_a_label_file_with_fewer_names_than_the_list_has_classes_is_one_line(train):
    Path("one.txt").write_text("a\n", encoding="utf-8")
    err = train("--label_file=one.txt", code=2)
    assert re.search(
        r"one\.txt: 1 names, but features/train\.list:\d+ has class id 3; give the label file", err
    )
    assert len(err.splitlines()) == 1


def test_a_class_id_above_a_list_of_labels_names_the_key(train):
    err = train("--set=MODEL.num_classes=2", code=2)
    assert (
        "expected below num_classes 2; class ids count from 0; correct the list, or train with a larger "
        in err
    )


def unlabel(count):
    """Removes the labels of the first lines of the training list."""
    path = Path("features/train.list")
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[:count] = [line.split()[0] for line in lines[:count]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_videos_without_a_label_train_several_tags_and_are_counted(train):
    unlabel(2)
    err = train("--epoch=1")
    assert "features/train.list: 2 of 10 lines have no label, such as line 1; these videos are" in err


def test_a_list_without_any_label_is_an_error_of_training(train):
    unlabel(10)
    assert "features/train.list: no label in any line; add the class ids" in train(code=2)


def test_a_single_label_task_needs_a_label_in_every_line(train):
    unlabel(1)
    err = train("--set=MODEL.task=single_label", code=2)
    assert "features/train.list:1: no label; write the class ids after the path" in err


# --- widths ---------------------------------------------------------------------------------------------


def test_the_features_decide_their_width(train):
    write_features(5)
    err = train("--resume")  # nothing to resume yet
    assert "MODEL.feature_dims: [5] of features/train0.npy and 9 more instead of [6] of tagger.yaml\n" in err
    assert ran().feature_dims == [5]
    train("--resume", "--epoch=3")
    assert "MODEL.feature_dims" not in train("--resume", "--set=MODEL.feature_dims=[5]")


def test_a_width_that_the_user_sets_is_an_error_that_names_the_key(train):
    write_features(5)
    err = train("--set=MODEL.feature_dims=[6]", code=2)
    assert (
        "features/train0.npy and 9 more: features are 5 wide, but MODEL.feature_dims is [6] (--set); " in err
    )
    assert len(err.splitlines()) == 1


def test_the_width_of_weights_to_start_from_holds(train):
    train()
    write_features(5)
    err = train("--pretrain=ck", "--save_dir=more", code=2)
    assert "MODEL.feature_dims is [6] (the weights to start from); " in err
    assert main(["train", "--resume", "--save_dir=ck"]) == 2


def test_features_of_several_widths_are_not_fitted(train):
    write_features(5)
    write_features(7, only="train3.npy")
    err = train(code=2)
    first, second, *_ = err.splitlines()
    assert "train0.npy: shape (3, 5), expected (T, 6), and 8 more of this width; " in first
    assert second.startswith(
        "features/train3.npy: shape (3, 7), expected (T, 6); was it extracted with another"
    )


def test_validation_features_of_another_width_are_an_error(train):
    write_features(5, only="train*.npy")
    err = train(code=2)
    assert "features/val0.npy: shape " in err
    assert "expected (T, 5), and 4 more of this width; were they extracted with another backbone?" in err
