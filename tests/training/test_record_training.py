"""Training, evaluation and prediction straight from files of records; resumed in the middle of an epoch."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.config import load_config
from videotag.errors import ConfigError, DecoderLostError, FileListError
from videotag.formats.filelist import read_filelist
from videotag.formats.weight_files import read_weights
from videotag.formats.yt8m_records import YT8MRecord, dequantize, quantize, write_yt8m
from videotag.inference.evaluate import to_tensors
from videotag.models import load_models, paddle
from videotag.registry import ArraySpec
from videotag.training.run import DivergedError, Run
from videotag.training.run_state import load_newest
from videotag.training.train import train_model

load_models()

NAME = "AttentionLSTM"
YAML = """
MODEL:
  name: AttentionLSTM
  feature_names: [rgb, audio]
  feature_dims: [6, 3]
  embedding_size: 8
  lstm_size: 5
  fc_sizes: [16, 8]
  num_classes: 4
  topk: 3
TRAIN: {epoch: 2, batch_size: 4, learning_rate: 0.01, filelist: train.list, seed: 3, use_gpu: false}
VALID: {batch_size: 3, filelist: val.list}
TEST: {batch_size: 3, filelist: val.list}
INFER: {batch_size: 2, filelist: val.list}
"""


def make_records(count, rng):
    for i in range(count):
        labels = np.sort(rng.choice(4, size=rng.integers(1, 3), replace=False))
        rgb = 0.1 * rng.standard_normal((int(rng.integers(1, 9)), 6))
        rgb[rng.integers(len(rgb)), labels] += 1.5
        audio = rng.standard_normal((len(rgb), 3))
        yield YT8MRecord(f"v{i}", labels, {"rgb": quantize(rgb), "audio": quantize(audio)})


@pytest.fixture
def records_dir(work_dir):
    """Files of records and the same videos as .npz, lists of both, labels.txt and tagger.yaml."""
    rng = np.random.default_rng(0)
    splits = {"train": list(make_records(18, rng)), "val": list(make_records(7, rng))}
    for split, records in splits.items():
        half = (len(records) + 1) // 2
        write_yt8m(f"{split}0.tfrecord", records[:half])
        write_yt8m(f"{split}1.tfrecord", records[half:])
        (work_dir / f"{split}.list").write_text(f"{split}0.tfrecord\n{split}1.tfrecord\n")
        lines = []
        for record in records:
            path = f"{split}_{record.video_id}.npz"
            np.savez(path, **{name: dequantize(x) for name, x in record.features.items()})
            lines.append(" ".join([path, *map(str, record.labels)]))
        (work_dir / f"{split}_npz.list").write_text("\n".join(lines) + "\n")
    (work_dir / "labels.txt").write_text("cat\ndog\nbird\n鲸\n", encoding="utf-8")
    (work_dir / "tagger.yaml").write_text(YAML)
    return work_dir


def train(save_dir, *, overrides=(), resume=False, log_interval=1):
    config = load_config("tagger.yaml", overrides=list(overrides))
    entries = read_filelist(config.train.filelist, labels="required", num_classes=4)
    valid = read_filelist(config.valid.filelist, num_classes=4)
    return train_model(config, entries, valid, save_dir=save_dir, resume=resume, log_interval=log_interval)


def same_weights(one, two):
    one, two = read_weights(one), read_weights(two)
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def losses(save_dir):
    lines = (save_dir / "train_log.jsonl").read_text(encoding="utf-8").splitlines()
    return [event["loss"] for event in map(json.loads, lines) if event["event"] == "train"]


@pytest.mark.parametrize("device", ["cpu", "gpu:0"])
def test_bytes_become_the_published_numbers_on_the_device_and_zero_behind_the_end(monkeypatch, device):
    monkeypatch.setattr(paddle, "get_device", lambda: device)
    specs = [ArraySpec("rgb", (None, None, None)), ArraySpec("rgb.mask", (None, None), "bool")]
    x = np.arange(256, dtype=np.uint8).reshape(2, 16, 8)
    mask = np.ones((2, 16), bool)
    mask[1, 10:] = False
    tensors = to_tensors({"rgb": x, "rgb.mask": mask, "audio": x}, specs)
    assert list(tensors) == ["rgb", "rgb.mask"]
    expected = dequantize(x) * mask[..., None]
    np.testing.assert_allclose(tensors["rgb"].numpy(), expected, atol=3e-7)
    assert np.array_equal(tensors["rgb.mask"].numpy(), mask)
    floats = np.ones((1, 2, 3), np.float32)
    kept = to_tensors({"rgb": floats, "rgb.mask": np.ones((1, 2), bool)}, specs)
    assert np.array_equal(kept["rgb"].numpy(), floats)


def test_validation_on_records_is_that_on_the_same_features(records_dir):
    result = train(records_dir / "ck")
    from_files = ["--set", "TEST.filelist=val_npz.list"]
    found = []
    for flags in ([], from_files):
        argv = ["eval", f"--weights={result.last_path}", "--config=tagger.yaml", *flags, "--json"]
        assert main([*argv, "--label_file=labels.txt", "--save_dir=out"]) == 0
        found.append(json.loads((records_dir / "out" / "metrics.json").read_text()))
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert found[0]["num_videos"] == 7


def test_predictions_bear_the_records_ids(records_dir, capsys):
    train(records_dir / "ck", overrides=[("TRAIN.epoch", 1)])
    argv = ["predict", "--weights=ck", "--label_file=labels.txt", "--save_dir=out"]
    assert main(argv) == 0
    found = json.loads((records_dir / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert [video["video_id"] for video in found] == [f"v{i}" for i in range(7)]
    before = (records_dir / "val.list.index.npz").read_bytes()
    assert main([*argv, "--video_path=val1.tfrecord"]) == 0
    assert (records_dir / "val.list.index.npz").read_bytes() == before  # of a list that is not looked at
    found = json.loads((records_dir / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert [video["video_id"] for video in found] == ["v4", "v5", "v6"]


def test_a_folder_of_records_is_predicted_and_one_of_two_kinds_is_an_error(records_dir, capsys):
    train(records_dir / "ck", overrides=[("TRAIN.epoch", 1)])
    (records_dir / "some").mkdir()
    for name in ("val0.tfrecord", "val1.tfrecord", "val.list.index.npz"):
        (records_dir / "some" / name).write_bytes((records_dir / name).read_bytes())
    argv = ["predict", "--weights=ck", "--save_dir=out", "--video_path=some", "--label_file=labels.txt"]
    assert main(argv) == 0
    assert len(json.loads((records_dir / "out" / "predictions.json").read_text(encoding="utf-8"))) == 7
    (records_dir / "some" / "val_v0.npz").write_bytes((records_dir / "val_v0.npz").read_bytes())
    assert main(argv) == 2
    assert "some/val_v0.npz: not a record file, unlike the rest of this list" in capsys.readouterr().err


def test_predictions_for_kaggle_need_no_names(records_dir, capsys):
    train(records_dir / "ck", overrides=[("TRAIN.epoch", 1)])
    argv = ["predict", "--weights=ck", "--save_dir=out", "--video_path=val1.tfrecord"]
    assert main(argv) == 0
    assert "class ids instead of names: " in capsys.readouterr().err
    found = json.loads((records_dir / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert all(tag["class_name"] == str(tag["class_id"]) for video in found for tag in video["tags"])
    assert main([*argv, "--format=kaggle", "--infer_topk=2"]) == 0
    assert capsys.readouterr().out == ""
    rows = (records_dir / "out" / "predictions_kaggle.csv").read_text().splitlines()
    assert rows[0] == "VideoId,LabelConfidencePairs"
    assert [row.split(",")[0] for row in rows[1:]] == ["v4", "v5", "v6"]
    assert all(len(row.split(",")[1].split()) == 4 for row in rows[1:])
    assert main([*argv, "--format=kaggle", "--label_file=gone.txt"]) == 2


def test_lists_of_two_kinds_and_labels_behind_records_are_errors(records_dir):
    (records_dir / "train.list").write_text("train0.tfrecord\nval_v0.npz 1\n")
    with pytest.raises(FileListError, match=r"val_v0\.npz: not a record file, unlike the rest of this list"):
        train(records_dir / "ck")
    (records_dir / "train.list").write_text("train0.tfrecord 3\n")
    with pytest.raises(FileListError, match=r"train\.list:1: class ids after a record file"):
        train(records_dir / "ck")
    npz = [("TRAIN.filelist", "train_npz.list"), ("TRAIN.shuffle_buffer", 10)]
    with pytest.raises(ConfigError, match=r"TRAIN\.shuffle_buffer: applies to record files only; remove"):
        train(records_dir / "ck", overrides=npz)


def test_a_damaged_record_is_listed_and_training_goes_on(records_dir, capsys):
    assert main(["train", "--config=tagger.yaml", "--save_dir=ck", "--epoch=1"]) == 0  # makes the index
    content = bytearray((records_dir / "train1.tfrecord").read_bytes())
    content[-20] ^= 255
    (records_dir / "train1.tfrecord").write_bytes(content)
    capsys.readouterr()
    assert main(["train", "--config=tagger.yaml", "--save_dir=ck2", "--epoch=1"]) == 1
    text = capsys.readouterr().err
    assert "skipped: train1.tfrecord: record 8 at byte" in text
    assert "wrong checksum of the data" in text
    assert "skipped: 1 videos" in text
    (line,) = (records_dir / "ck2" / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["video_id"] == "train1.tfrecord: record 8"
    (records_dir / "train.list").write_text("train0.tfrecord\n")
    assert main(["train", "--config=tagger.yaml", "--save_dir=ck2", "--epoch=1"]) == 0
    assert not (records_dir / "ck2" / "failures.jsonl").exists()
    (line,) = (records_dir / "ck2/earlier-1/failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["video_id"] == "train1.tfrecord: record 8"


def test_a_resumed_run_keeps_its_failures_and_their_exit_code(records_dir, capsys):
    assert main(["train", "--config=tagger.yaml", "--save_dir=ck", "--epoch=1"]) == 0  # makes the index
    content = bytearray((records_dir / "train1.tfrecord").read_bytes())
    content[-20] ^= 255
    (records_dir / "train1.tfrecord").write_bytes(content)
    words = ["train", "--config=tagger.yaml", "--save_dir=ck2", "--resume"]
    for epoch in (1, 2, 2):  # new, resumed, and nothing left to train
        assert main([*words, f"--epoch={epoch}"]) == 1
        (line,) = (records_dir / "ck2" / "failures.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(line)["video_id"] == "train1.tfrecord: record 8"
    assert "nothing to train: 2 epochs are done, TRAIN.epoch=2" in capsys.readouterr().err


def test_a_resumed_run_records_what_changed(records_dir):
    words = ["train", "--config=tagger.yaml", "--save_dir=ck", "--resume"]
    assert main([*words, "--epoch=2"]) == 0
    assert main([*words, "--epoch=1", "--set=INFER.batch_size=7"]) == 0
    config = load_config(records_dir / "ck" / "config.yaml")
    assert (config.train.epoch, config.infer.batch_size) == (2, 7)


STEPWISE = [("TRAIN.checkpoint_minutes", 1e-9), ("TRAIN.ema_decay", 0.9)]


def test_a_run_broken_off_within_an_epoch_goes_on_to_the_same_weights(records_dir, monkeypatch):
    whole = train(records_dir / "whole", overrides=STEPWISE)
    assert not list((records_dir / "whole").glob("*_step*.pdparams"))  # nothing is left of them in the end

    from videotag.training import run as engine

    saved = []

    def stop_after(*args):
        saved.append(args)
        engine_save(*args)
        if len(saved) == 3:
            raise KeyboardInterrupt

    engine_save = engine.save_state
    monkeypatch.setattr(engine, "save_state", stop_after)
    with pytest.raises(KeyboardInterrupt):
        train(records_dir / "broken", overrides=STEPWISE)
    found = load_newest(records_dir / "broken", NAME)
    assert (found.progress.epoch, found.progress.step) == (0, 3)
    assert found.weights_path.name == f"{NAME}_epoch0_step3.pdparams"
    resumed = train(records_dir / "broken", overrides=STEPWISE, resume=True)
    assert same_weights(resumed.last_path, whole.last_path)
    assert resumed.best == whole.best
    assert len(losses(records_dir / "broken")) == len(losses(records_dir / "whole"))


KILLED = """
import sys
from videotag.cli.main import main
sys.exit(main(["train", "--config=tagger.yaml", f"--save_dir={sys.argv[1]}", "--epoch=3", "--resume",
    "--set", "TRAIN.checkpoint_minutes=0.000001"]))
"""


@pytest.mark.slow
def test_kills_within_epochs_change_nothing(records_dir):
    rng = random.Random(5)
    # In a process of its own: what earlier tests did to this one's threads would round otherwise.
    assert subprocess.run([sys.executable, "-c", KILLED, "whole"], check=False).returncode == 0
    log = records_dir / "broken" / "train_log.jsonl"
    for lines in (2, 6, 11):
        with subprocess.Popen([sys.executable, "-c", KILLED, "broken"]) as process:
            give_up = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < give_up:
                if log.exists() and len(log.read_bytes().splitlines()) >= lines:
                    time.sleep(rng.random() / 20)
                    process.send_signal(signal.SIGKILL)
                    break
                time.sleep(0.005)
    assert subprocess.run([sys.executable, "-c", KILLED, "broken"], check=False).returncode == 0
    last = f"{NAME}.pdparams"
    assert same_weights(records_dir / "broken" / last, records_dir / "whole" / last)


def test_a_run_that_ends_in_an_error_has_listed_its_failures_and_whether_to_retry(records_dir, monkeypatch):
    def diverge(run, learner, progress):
        run.skip_unreadable("a.mp4", DecoderLostError("a.mp4: the decoder crashed"))
        run.skip_unreadable("a.mp4", DecoderLostError("a.mp4: the decoder crashed"))  # in the next epoch
        raise DivergedError("the loss is nan")

    monkeypatch.setattr(Run, "_learn", diverge)
    with pytest.raises(DivergedError):
        train(records_dir / "ck")
    (line,) = (records_dir / "ck" / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {"video_id": "a.mp4", "retriable": True, "error": "a.mp4: the decoder crashed"}
