"""Two processes learn what one learns with the same batches, and measure what one measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.formats.weight_files import read_weights
from videotag.formats.yt8m_records import YT8MRecord, quantize, write_yt8m
from videotag.training import launch

ROOT = Path(__file__).resolve().parents[2]
NUM_TRAIN, NUM_VALID = 18, 7
YAML = """
MODEL:
  name: AttentionLSTM
  drop_rate: 0.0
  feature_names: [rgb]
  feature_dims: [6]
  embedding_size: 8
  lstm_size: 5
  fc_sizes: [16, 8]
  num_classes: 4
  topk: 3
TRAIN: {epoch: 2, batch_size: 5, learning_rate: 0.01, filelist: train.list, seed: 3, use_gpu: false}
VALID: {batch_size: 3, filelist: val.list}
TEST: {batch_size: 3, filelist: val.list}
"""


@pytest.fixture
def records_dir(work_dir):
    rng = np.random.default_rng(0)
    for split, count in (("train", NUM_TRAIN), ("val", NUM_VALID)):
        records = []
        for i in range(count):
            labels = np.sort(rng.choice(4, size=rng.integers(1, 3), replace=False))
            rgb = 0.1 * rng.standard_normal((int(rng.integers(1, 9)), 6))
            rgb[rng.integers(len(rgb)), labels] += 1.5
            records.append(YT8MRecord(f"{split}{i}", labels, {"rgb": quantize(rgb)}))
        write_yt8m(f"{split}.tfrecord", records)
        (work_dir / f"{split}.list").write_text(f"{split}.tfrecord\n")
    empty = YT8MRecord("empty", np.array([1]), {"rgb": np.zeros((0, 6), np.uint8)})
    write_yt8m("bad.tfrecord", [*records[:3], empty, *records[3:]])
    (work_dir / "bad.list").write_text("bad.tfrecord\n")
    (work_dir / "labels.txt").write_text("cat\ndog\nbird\n鲸\n", encoding="utf-8")
    (work_dir / "tagger.yaml").write_text(YAML)
    return work_dir


def launched(script, *flags):
    """Runs a script in two processes; its exit code and what the first one printed."""
    argv = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", "logs"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PORT_RANGE": "20000:32000"}  # not the system's own
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(
        [*argv, str(script), "--config=tagger.yaml", *flags],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def events(save_dir, kind):
    lines = Path(save_dir, "train_log.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def assert_same_run(one, two):
    assert events(two, "start")[0]["processes"] == 2
    for kind, keys in (("train", ["step", "loss"]), ("valid", ["loss", "gap", "perr", "num_videos"])):
        assert len(events(one, kind)) == len(events(two, kind)) > 0
        for first, second in zip(events(one, kind), events(two, kind), strict=True):
            assert [second[key] for key in keys] == pytest.approx([first[key] for key in keys], abs=1e-4)
    assert events(two, "valid")[-1]["num_videos"] == NUM_VALID
    theirs = read_weights(Path(two, "AttentionLSTM.pdparams"))
    for name, array in read_weights(Path(one, "AttentionLSTM.pdparams")).items():
        np.testing.assert_allclose(theirs[name], array, atol=1e-4)


# The last batches: 3 videos for two processes; 1 video, so that one of them has none.
@pytest.mark.parametrize(
    ("batch_size", "more"),
    [(5, []), (17, ["TRAIN.loss_reduction=sum", "TRAIN.accumulate_steps=2", "TRAIN.clip_norm=1"])],
)
def test_two_processes_have_the_loss_curve_the_weights_and_the_metrics_of_one(records_dir, batch_size, more):
    flags = [f"--batch_size={batch_size}", *(word for text in more for word in ("--set", text))]
    assert main(["train", "--config=tagger.yaml", "--save_dir=one", *flags]) == 0
    code, text = launched(ROOT / "train.py", "--save_dir=two", *flags)
    assert code == 0, text
    assert_same_run("one", "two")
    assert text.count("last weights:") == 1  # the second process is silent


def test_a_video_that_cannot_be_read_is_left_out_by_two_processes_as_by_one(records_dir):
    flags = ["--batch_size=1", "--epoch=1", "--set", "TRAIN.filelist=bad.list"]
    assert main(["train", "--config=tagger.yaml", "--save_dir=one", *flags]) == 1
    code, text = launched(ROOT / "train.py", "--save_dir=two", *flags)
    assert code == 1, text
    assert "no steps of rgb; leave the video out" in text
    assert_same_run("one", "two")


STOPPED = """
import os, sys
from videotag.cli.main import main
from videotag.training import run

saved, save_state = [], run.save_state

def stop(*args):
    save_state(*args)
    saved.append(args)
    if len(saved) == 6:  # of 4 steps and an epoch's end, a step more
        os._exit(9)

run.save_state = stop
sys.exit(main(["train", *sys.argv[1:]]))
"""


def test_two_processes_resume_within_an_epoch_and_measure_every_video_once(records_dir):
    assert main(["train", "--config=tagger.yaml", "--save_dir=one", "--label_file=labels.txt"]) == 0
    steps = ["--set", "TRAIN.checkpoint_minutes=0.000001", "--label_file=labels.txt"]
    (records_dir / "stopped.py").write_text(STOPPED)
    assert launched("stopped.py", "--save_dir=two", *steps)[0] == 9
    code, text = launched(ROOT / "train.py", "--save_dir=two", "--resume", *steps)
    assert code == 0, text
    assert "resuming after 1 of 2 epochs and 2 of 4 steps" in text
    assert_same_run("one", "two")

    flags = ["--weights=two", "--filelist=bad.list"]
    assert main(["eval", *flags, "--save_dir=alone"]) == 1
    code, text = launched(ROOT / "eval.py", *flags, "--save_dir=together")
    assert code == 1, text
    alone, together = (json.loads(Path(f, "metrics.json").read_text()) for f in ("alone", "together"))
    assert together.pop("loss") == pytest.approx(alone.pop("loss"), abs=1e-5)
    assert together == pytest.approx(alone, abs=1e-12)
    assert Path("together/per_class.csv").read_text() == Path("alone/per_class.csv").read_text()


def test_a_mistake_ends_all_processes_with_its_one_line(records_dir):
    code, text = launched(ROOT / "train.py", "--save_dir=two", "--set", "MODEL.feature_dims=[7]")
    assert code == 2, text
    assert "rgb of shape" in text


def test_a_command_that_shares_no_work_is_refused(work_dir, monkeypatch, capsys):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    assert main(["predict", "--weights=x"]) == 2
    assert "videotag predict runs in one process; start it without paddle.dist" in capsys.readouterr().err


def test_several_listed_gpus_start_the_launcher_and_nothing_else_does(monkeypatch):
    called = []
    monkeypatch.setattr(launch.os, "execv", lambda path, argv: called.append(argv))
    monkeypatch.setattr(launch, "num_gpus", lambda: 2)
    monkeypatch.setattr(sys, "argv", ["train.py", "--epoch=3"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    launch.launch_on_gpus("auto", log_dir=Path("out/launch"))  # nobody said that all are wanted
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    launch.launch_on_gpus(False, log_dir=Path("out/launch"))
    with monkeypatch.context() as inside:
        inside.setenv("PADDLE_TRAINERS_NUM", "2")
        launch.launch_on_gpus("auto", log_dir=Path("out/launch"))
    with monkeypatch.context() as single:
        single.setattr(launch, "num_gpus", lambda: 1)
        launch.launch_on_gpus(True, log_dir=Path("out/launch"))
    assert called == []
    launch.launch_on_gpus("auto", log_dir=Path("out/launch"))
    expected = ["-m", "paddle.distributed.launch", "--log_dir", "out/launch", "train.py", "--epoch=3"]
    assert called == [[sys.executable, *expected]]
