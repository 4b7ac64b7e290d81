"""A TSN trained on videos and on folders of frames, evaluated, resumed, and used by the other commands."""

from __future__ import annotations

import json

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.formats.feature_files import read_stamp
from videotag.formats.weight_files import read_weights, write_safetensors
from videotag.media.synthetic import COLORS
from videotag.media.writer import write_video

TSN_YAML = """
MODEL: {name: TSN, num_layers: 18, num_classes: 3, topk: 3, label_file: labels.txt}
TRAIN: {seg_num: 2, short_size: 36, target_size: 32, batch_size: 4, epoch: 4, learning_rate: 0.01, seed: 1,
        decay_epochs: [9], filelist: train.list, use_gpu: false, num_reader_threads: 2}
VALID: {seg_num: 2, short_size: 36, target_size: 32, batch_size: 3, filelist: val.list}
TEST: {seg_num: 2, short_size: 36, target_size: 32, batch_size: 3, filelist: val.list}
INFER: {seg_num: 4, short_size: 36, target_size: 32, batch_size: 2, filelist: val.list}
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Twelve films of one colour each, their lists, labels.txt and tsn.yaml; made once."""
    folder = tmp_path_factory.mktemp("films")
    colours = list(COLORS.values())[:3]
    rng = np.random.default_rng(0)
    lines = []
    for index in range(18):
        frames = np.full((6, 36, 48, 3), colours[index % 3], np.uint8)
        frames = np.clip(frames + rng.integers(-20, 20, frames.shape), 0, 255).astype(np.uint8)
        write_video(folder / f"{index}.mp4", frames, fps=6)
        lines.append(f"{index}.mp4 {index % 3}")
    (folder / "train.list").write_text("\n".join(lines[:12]) + "\n", encoding="utf-8")
    (folder / "val.list").write_text("\n".join(lines[12:]) + "\n", encoding="utf-8")
    (folder / "labels.txt").write_text("one\ntwo\nthree\n", encoding="utf-8")
    (folder / "tsn.yaml").write_text(TSN_YAML, encoding="utf-8")
    return folder


@pytest.fixture
def tsn_dir(films, work_dir):
    """An empty working folder with the films."""
    for path in films.iterdir():
        (work_dir / path.name).hardlink_to(path)
    return work_dir


def run(*words):
    return main([*words, "--config=tsn.yaml"] if words[0] == "train" else list(words))


def weights(path):
    return {name: array.copy() for name, array in read_weights(path).items()}


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_a_tsn_learns_colours_and_all_commands_use_it(tsn_dir, capsys):
    assert run("train", "--save_dir=ck", "--epoch=12", "--learning_rate=0.003") == 0
    out = capsys.readouterr().out
    assert "top1" in out
    assert run("eval", "--weights=ck", "--save_dir=ev", "--json") == 0
    metrics = json.loads((tsn_dir / "ev" / "metrics.json").read_text(encoding="utf-8"))
    groups = {f"mean_ap_{name}" for name in ("head", "middle", "tail")}
    assert metrics.keys() == {"top1", "mean_ap", "num_videos", "loss", *groups}
    assert metrics["num_videos"] == 6
    assert metrics["mean_ap"] > 0.5  # chance is about 1 / 3
    assert metrics["top1"] > 0.6  # chance is 1 / 3
    assert (tsn_dir / "ev" / "per_class.csv").read_text(encoding="utf-8").startswith("class_id,class_name")
    capsys.readouterr()
    assert run("predict", "--weights=ck", "--video_path=12.mp4", "--json", "--save_dir=p") == 0
    tags = json.loads(capsys.readouterr().out)["tags"]
    assert sum(tag["probability"] for tag in tags) == pytest.approx(1.0, abs=1e-3)
    assert {tag["class_name"] for tag in tags} == {"one", "two", "three"}
    assert run("extract", "--weights=ck", "--filelist=val.list", "--save_dir=f") == 0
    assert np.load("f/12.npy").shape == (4, 512)
    assert read_stamp("f/12.npy")["extractor"] == "TSN/resnet18"


def test_a_killed_tsn_run_goes_on_to_the_same_weights(tsn_dir):
    assert run("train", "--save_dir=whole", "--epoch=3") == 0
    assert run("train", "--save_dir=cut", "--epoch=2") == 0
    assert run("train", "--save_dir=cut", "--epoch=3", "--resume") == 0
    assert same(weights("whole/TSN.pdparams"), weights("cut/TSN.pdparams"))


def test_several_tags_per_video_are_learned_with_the_task_multi_label(tsn_dir, capsys):
    lines = (tsn_dir / "train.list").read_text(encoding="utf-8").splitlines()
    several = "\n".join(f"{line} {(int(line.split()[1]) + 1) % 3}" for line in lines)
    (tsn_dir / "several.list").write_text(several + "\n", encoding="utf-8")
    words = ["train", "--save_dir=ck", "--epoch=1", "--set=TRAIN.filelist=several.list"]
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert (
        "several.list:1: 2 labels, expected 1; for several labels per video set MODEL.task=multi_label" in err
    )
    words += ["--set=VALID.filelist=several.list", "--set=MODEL.task=multi_label"]
    assert run(*words) == 0
    assert "gap" in capsys.readouterr().out
    assert run("predict", "--weights=ck", "--video_path=12.mp4", "--json", "--save_dir=p") == 0
    scores = [tag["probability"] for tag in json.loads(capsys.readouterr().out)["tags"]]
    assert sum(scores) != pytest.approx(1.0, abs=1e-3), "sigmoid, not softmax"


def test_folders_of_frames_are_trained_on_and_predicted(tsn_dir, capsys):
    for name in ("train", "val"):
        assert (
            run("frames", f"--filelist={name}.list", "--save_dir=jpg", "--short_size=36", "--quality=95") == 0
        )
    frames = ["--set=MODEL.format=frames"]
    lists = ["--set=TRAIN.filelist=jpg/train.list", "--set=VALID.filelist=jpg/val.list"]
    assert run("train", "--save_dir=ck", *frames, *lists, "--epoch=2") == 0
    assert run("eval", "--weights=ck", "--filelist=jpg/val.list", "--save_dir=ev") == 0
    capsys.readouterr()
    assert run("predict", "--weights=ck", "--filelist=jpg/val.list", "--json", "--save_dir=p") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["video_id"] for line in lines] == [f"jpg/{n}" for n in range(12, 18)]
    (tsn_dir / "bad.list").write_text("jpg/12 0 1\njpg/13\n", encoding="utf-8")
    assert run("eval", "--weights=ck", "--filelist=bad.list") == 2
    err = capsys.readouterr().err
    assert (
        "bad.list:1: '0' is not a valid num_frames, expected a number from 1; write: path num_frames" in err
    )
    assert "bad.list:2: nothing is not a valid num_frames" in err


def test_lists_of_the_other_kind_are_told_apart_before_work(tsn_dir, capsys):
    assert run("frames", "--filelist=val.list", "--save_dir=jpg", "--short_size=36") == 0
    lists = ["--set=TRAIN.filelist=jpg/val.list", "--save_dir=ck"]
    assert run("train", *lists) == 2
    assert (
        "jpg/12 and 5 more: a folder; if it holds frames, set MODEL.format=frames" in capsys.readouterr().err
    )
    assert run("train", "--set=MODEL.format=frames", "--save_dir=ck") == 2
    assert (
        "0.mp4 and 11 more: a file; MODEL.format is frames, whose lists name folders"
        in capsys.readouterr().err
    )
    assert not (tsn_dir / "ck").exists()


def test_a_resumed_run_takes_its_own_config(tsn_dir, capsys):
    assert run("train", "--save_dir=ck", "--epoch=1") == 0
    assert main(["train", "--resume", "--save_dir=ck", "--epoch=2"]) == 0
    assert "resuming after 1 of 2 epochs from ck/TSN_epoch0.pdparams" in capsys.readouterr().err


def test_videos_that_cannot_be_decoded_are_left_out_and_counted(tsn_dir, capsys):
    (tsn_dir / "0.mp4").unlink()
    (tsn_dir / "0.mp4").write_bytes(b"no video")
    assert run("train", "--save_dir=ck", "--epoch=2") == 1
    err = capsys.readouterr().err
    assert err.count("skipped: 0.mp4: cannot be read as video") == 1, "said once, not every epoch"
    assert "skipped: 1 videos that cannot be read" in err
    (tsn_dir / "none.list").write_text("0.mp4 1\n", encoding="utf-8")
    assert run("train", "--save_dir=ck2", "--set=TRAIN.filelist=none.list", "--epoch=1") == 2
    assert "none.list: none of its videos could be read" in capsys.readouterr().err
    assert not list((tsn_dir / "ck2").glob("*.pdparams"))


def test_a_backbone_alone_starts_a_tsn_whose_classifier_starts_anew(tsn_dir, capsys):
    assert run("train", "--save_dir=ck", "--epoch=1") == 0
    state = weights("ck/TSN.pdparams")
    bare = {n.removeprefix("backbone."): a for n, a in state.items() if n.startswith("backbone.")}
    write_safetensors("resnet18.safetensors", bare)
    words = ["--epoch=1", "--pretrain=resnet18.safetensors", "--learning_rate=1e-12"]
    assert run("train", "--save_dir=tuned", *words, "--set=TRAIN.weight_decay=0") == 0
    assert "reinitialized: fc.weight (512, 3) (in the file: missing)" in capsys.readouterr().err
    tuned = weights("tuned/TSN.pdparams")
    kept = [n for n in bare if not n.endswith(("_mean", "_variance"))]
    assert kept
    for name in kept:
        np.testing.assert_allclose(tuned[f"backbone.{name}"], bare[name], atol=1e-6)


def test_the_old_sampling_and_scaling_are_part_of_what_features_are_stamped_with(tsn_dir):
    assert run("train", "--save_dir=ck", "--epoch=1") == 0
    words = ["extract", "--weights=ck", "--video_path=12.mp4", "--save_dir=f"]
    assert run(*words) == 0
    assert run(*words, "--set=INFER.sampling=videotag", "--set=INFER.resize=videotag") == 0
    stamp = read_stamp("f/12.npy")
    assert (stamp["sampling"], stamp["resize"]) == ("videotag", "videotag")
