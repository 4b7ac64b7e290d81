"""An interrupted training run resumes to bitwise equal weights, whatever interrupted it and when."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.config import load_config
from videotag.errors import ConfigError, FileListError, OutputError
from videotag.formats.filelist import read_filelist
from videotag.formats.weight_files import read_weights
from videotag.labels import read_labels
from videotag.models import load_models
from videotag.system.folder_lock import folder_lock
from videotag.training.run import DivergedError
from videotag.training.run_state import load_newest, move_earlier_run
from videotag.training.train import train_model

load_models()

NAME = "AttentionLSTM"
RUN = [("TRAIN.epoch", 5)]


def train(save_dir, *, overrides=(), resume=False, **options):
    config = load_config("tagger.yaml", overrides=[*RUN, *overrides])
    entries = read_filelist(config.train.filelist, labels="required", num_classes=4)
    valid = read_filelist(config.valid.filelist, num_classes=4)
    return train_model(config, entries, valid, save_dir=save_dir, resume=resume, **options)


def same_weights(one, two):
    one, two = read_weights(one), read_weights(two)
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


AIDS = {
    "rmsprop": [],
    "adam and clipping": [("TRAIN.optimizer", "adam"), ("TRAIN.clip_norm", 1.0)],
    "momentum, running mean and parts": [
        ("TRAIN.optimizer", "momentum"),
        ("TRAIN.ema_decay", 0.9),
        ("TRAIN.accumulate_steps", 2),
    ],
    "a learning rate by range test": [("TRAIN.learning_rate", "auto")],
    "warm-up, decay, frozen parts and rates": [
        ("TRAIN.warmup_epochs", 2),
        ("TRAIN.decay_epochs", [3]),
        ("TRAIN.freeze", ["pools.*.embed.*"]),
        ("TRAIN.lr_factors", {"output.*": 10.0}),
    ],
}


@pytest.mark.parametrize("aids", AIDS.values(), ids=AIDS)
def test_a_resumed_run_ends_in_the_weights_of_an_unbroken_one(tagger_dir, aids):
    unbroken = train(tagger_dir / "unbroken", overrides=aids)
    train(tagger_dir / "broken", overrides=[*aids, ("TRAIN.epoch", 2)])
    resumed = train(tagger_dir / "broken", overrides=aids, resume=True)
    assert same_weights(resumed.last_path, unbroken.last_path)
    assert same_weights(resumed.best_path, unbroken.best_path)
    assert resumed.best == unbroken.best
    assert same_weights(tagger_dir / "broken" / f"{NAME}_best.pdparams", unbroken.best_path)


KILLED_RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from videotag.cli.main import main
sys.exit(main(["train", "--config=tagger.yaml", f"--save_dir={sys.argv[2]}", "--epoch=5", "--resume"]))
"""


def strike(save_dir, num_lines, delay_sec):
    """Starts or resumes the run, kills it a moment after its log has grown, and returns its exit code."""
    command = [sys.executable, "-c", KILLED_RUN, str(Path(__file__).parents[2]), str(save_dir)]
    log = save_dir / "train_log.jsonl"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            # Starting takes most of the time: wait until training is under way, then strike at any moment.
            if log.exists() and log.read_bytes().count(b"\n") > num_lines:
                time.sleep(delay_sec)
                process.kill()
                break
            time.sleep(0.001)
    return process.returncode


@pytest.mark.slow
def test_runs_killed_at_random_moments_end_in_the_weights_of_an_unbroken_one(tagger_dir):
    # In a process of its own too: what earlier tests did to this one's threads would round otherwise.
    unbroken, killed = tagger_dir / "unbroken", tagger_dir / "killed"
    assert strike(unbroken, 10**9, 0) == 0
    rng = random.Random(time.time_ns())
    codes = []
    for _ in range(4):
        log = killed / "train_log.jsonl"
        num_lines = log.read_bytes().count(b"\n") if log.exists() else 0
        codes.append(strike(killed, num_lines, rng.uniform(0, 0.2)))
    codes.append(strike(killed, 10**9, 0))
    assert codes[-1] == 0
    assert -signal.SIGKILL in codes
    for file in (f"{NAME}.pdparams", f"{NAME}_best.pdparams"):
        assert same_weights(killed / file, unbroken / file)


@pytest.mark.parametrize("suffix", ["pdparams", "pdopt", "json"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(tagger_dir, caplog, suffix, damage):
    unbroken = train(tagger_dir / "unbroken")
    train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 3)])
    path = tagger_dir / "ck" / f"{NAME}_epoch2.{suffix}"
    content = path.read_bytes()
    path.unlink()  # the weights are one file with the links to them
    middle = len(content) // 2
    path.write_bytes(content[:middle] if damage == "cut" else content.replace(content[middle:], b"\x01" * 9))
    with caplog.at_level("WARNING", "videotag"):
        resumed = train(tagger_dir / "ck", resume=True)
    assert "epoch2.pdparams: damaged" in caplog.text
    assert "falling back to the previous one" in caplog.text
    assert same_weights(resumed.last_path, unbroken.last_path)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (b"[" * 10**5, "not JSON: lists and objects nested deeper than 64 levels"),
        (
            b'{"best": {' + b",".join(b'"%d": []' % n for n in range(30_000)) + b"}}",
            "or more, expected",
        ),
        (b"3", "its sha256 is not the recorded one"),
    ],
    ids=["deep", "large", "a number"],
)
def test_a_card_beyond_a_bound_falls_back_to_the_checkpoint_before(tagger_dir, caplog, card, message):
    train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 2)])
    (tagger_dir / "ck" / f"{NAME}_epoch1.json").write_bytes(card)
    with caplog.at_level("WARNING", "videotag"):
        found = load_newest(tagger_dir / "ck", NAME)
    assert found.weights_path.name == f"{NAME}_epoch0.pdparams"
    assert message in caplog.text


def test_the_running_mean_is_what_is_saved_and_the_raw_weights_go_on(tagger_dir):
    plain = train(tagger_dir / "plain", overrides=[("TRAIN.epoch", 1)])
    mean = train(tagger_dir / "mean", overrides=[("TRAIN.epoch", 1), ("TRAIN.ema_decay", 0.5)])
    assert not same_weights(plain.last_path, mean.last_path)
    raw = read_weights(tagger_dir / "mean" / f"{NAME}_epoch0.pdopt")
    for name, array in read_weights(plain.last_path).items():
        np.testing.assert_array_equal(raw[f"raw.{name}"], array)


def test_resume_without_a_checkpoint_starts_anew(tagger_dir):
    result = train(tagger_dir / "ck", resume=True)
    assert same_weights(result.last_path, train(tagger_dir / "other").last_path)


def test_a_finished_run_resumes_to_itself_and_more_epochs_go_on(tagger_dir):
    first = train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 2)])
    again = train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 2)], resume=True)
    assert (again.last_path, again.best) == (first.last_path, first.best)
    other = [("TRAIN.pretrain", "nowhere"), ("MODEL.label_file", "other.txt")]
    assert same_weights(
        train(tagger_dir / "ck", overrides=other, resume=True).last_path,
        train(tagger_dir / "whole").last_path,
    )
    own, whole = ((tagger_dir / run / "config.yaml").read_text(encoding="utf-8") for run in ("ck", "whole"))
    assert own == whole, "more epochs, and all else as the run began"
    train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 1)], resume=True)
    assert (tagger_dir / "ck" / "config.yaml").read_text(encoding="utf-8") == whole


def test_a_resumed_run_may_not_change_what_decides_the_weights(tagger_dir):
    train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 1)])
    with pytest.raises(ConfigError) as caught:
        train(
            tagger_dir / "ck", overrides=[("TRAIN.learning_rate", 0.5), ("MODEL.lstm_size", 3)], resume=True
        )
    assert "MODEL.lstm_size: 3, but the run to resume has 5" in str(caught.value)
    assert "TRAIN.learning_rate: 0.5, but the run to resume has 0.01" in str(caught.value)
    with Path("features/train.list").open("a", encoding="utf-8") as file:
        file.write("features/val0.npy 1\n")
    with pytest.raises(FileListError, match=r"features/train.list: differs from the list of the run in "):
        train(tagger_dir / "ck", resume=True)


def test_a_resumed_run_has_the_class_names_it_began_with_wherever_their_file_stands(tagger_dir):
    names = ["a", "b", "c", "d"]
    train(tagger_dir / "ck", overrides=[("MODEL.label_file", "a.txt"), ("TRAIN.epoch", 1)], labels=names)
    train(tagger_dir / "ck", overrides=[("MODEL.label_file", "b.txt")], labels=names, resume=True)
    with pytest.raises(ConfigError, match=r"MODEL.label_file: class names .* give .*ck/labels.txt, or"):
        train(tagger_dir / "ck", labels=names[::-1], resume=True)
    train(tagger_dir / "unnamed", overrides=[("TRAIN.epoch", 1)])
    train(tagger_dir / "unnamed", labels=names, resume=True)
    assert read_labels(tagger_dir / "unnamed" / "labels.txt") == names


def test_a_resumed_run_needs_not_the_file_of_its_class_names(tagger_dir, capsys):
    Path("mine.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    command = ["train", "--save_dir=ck"]
    assert main([*command, "--config=tagger.yaml", "--epoch=1", "--label_file=mine.txt"]) == 0
    Path("mine.txt").unlink()
    assert main([*command, "--resume", "--epoch=2"]) == 0
    assert main([*command, "--resume", "--epoch=2", "--config=ck/config.yaml"]) == 0
    Path("other.txt").write_text("d\nb\nc\na\n", encoding="utf-8")
    capsys.readouterr()
    assert main([*command, "--resume", "--set", "MODEL.label_file=other.txt"]) == 2
    assert "MODEL.label_file: class names differ from those" in capsys.readouterr().err


def test_a_resumed_run_may_change_what_does_not_decide_the_weights(tagger_dir, caplog):
    train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 2)])
    changed = [("VALID.filelist", "features/test.list"), ("MODEL.topk", 2), ("TRAIN.keep", 9)]
    resumed = train(tagger_dir / "ck", overrides=changed, resume=True)
    assert same_weights(resumed.last_path, train(tagger_dir / "whole").last_path)
    assert "VALID.filelist differs from that of the resumed run: the best epoch is reset" in caplog.text
    lines = (tagger_dir / "ck" / "train_log.jsonl").read_text(encoding="utf-8").splitlines()
    valid = [event for event in map(json.loads, lines) if event["event"] == "valid"]
    assert resumed.best["gap"] == max(event["gap"] for event in valid[2:])


def test_weights_that_no_run_wrote_stay_where_they_are(tagger_dir):
    train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 1)])
    for name in ("mine.pdparams", "mine.json"):
        (tagger_dir / "ck" / name).write_bytes(b"the user's own")
    train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 1)])
    assert (tagger_dir / "ck" / "mine.pdparams").read_bytes() == b"the user's own"
    assert (tagger_dir / "ck" / "mine.json").is_file()
    assert (tagger_dir / "ck" / "earlier-1" / f"{NAME}_best.pdparams").is_file()


def test_what_a_failed_run_left_is_moved_aside_and_a_restarted_job_goes_on_in_its_log(tagger_dir):
    with pytest.raises(DivergedError):
        train(tagger_dir / "ck", overrides=[("TRAIN.learning_rate", 1e30)])
    train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 1)], resume=True)
    log = (tagger_dir / "ck" / "train_log.jsonl").read_text(encoding="utf-8")
    assert log.count('"start"') == 2
    with pytest.raises(DivergedError):
        train(tagger_dir / "other", overrides=[("TRAIN.learning_rate", 1e30)])
    train(tagger_dir / "other", overrides=[("TRAIN.epoch", 1)])
    log = (tagger_dir / "other" / "train_log.jsonl").read_text(encoding="utf-8")
    assert log.count('"start"') == 1
    assert (tagger_dir / "other" / "earlier-1" / "config.yaml").is_file()


def test_early_stop_without_validation_is_an_error(tagger_dir):
    with pytest.raises(ConfigError, match=r"TRAIN.early_stop: needs validation; set VALID.filelist"):
        train(tagger_dir / "ck", overrides=[("TRAIN.early_stop", 1)], valid_interval=0)


def test_a_new_run_moves_the_earlier_one_aside(tagger_dir, caplog):
    first = read_weights(train(tagger_dir / "ck", labels=["a", "b", "c", "d"]).last_path)
    first = {name: array.copy() for name, array in first.items()}
    with caplog.at_level("WARNING", "videotag"):
        train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 1), ("TRAIN.seed", 9)])
    assert f"moved the earlier run to {tagger_dir / 'ck' / 'earlier-1'}" in caplog.text
    names = {path.name for path in (tagger_dir / "ck").iterdir()}
    assert names == {
        ".videotag.lock",
        "earlier-1",
        "config.yaml",
        "train_log.jsonl",
        f"{NAME}.pdparams",
        f"{NAME}_best.pdparams",
        *(f"{NAME}_epoch0.{kind}" for kind in ("json", "pdopt", "pdparams")),
    }
    assert (tagger_dir / "ck" / "earlier-1" / "labels.txt").is_file()
    kept = read_weights(tagger_dir / "ck" / "earlier-1" / f"{NAME}.pdparams")
    assert all(np.array_equal(kept[name], first[name]) for name in first)
    train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 1)])
    assert (tagger_dir / "ck" / "earlier-2").is_dir()
    assert move_earlier_run(tagger_dir / "nothing here") is None


@pytest.mark.parametrize(
    ("keep", "weights", "states"), [(None, {0, 1, 2, 3, 4}, {3, 4}), (1, {4}, {4}), (3, {2, 3, 4}, {2, 3, 4})]
)
def test_keep_says_how_many_checkpoints_stay(tagger_dir, keep, weights, states):
    result = train(tagger_dir / "ck", overrides=[("TRAIN.keep", keep)], valid_interval=0)
    files = {path.name for path in (tagger_dir / "ck").iterdir()}
    assert {n for n in range(5) if f"{NAME}_epoch{n}.pdparams" in files} == weights
    assert {n for n in range(5) if f"{NAME}_epoch{n}.pdopt" in files} == states
    assert {n for n in range(5) if f"{NAME}_epoch{n}.json" in files} == states
    assert result.best_path == result.last_path


def measured(monkeypatch, gaps, *, num_videos):
    """Lets the validations of a run give these GAPs."""
    found = iter(gaps)
    monkeypatch.setattr(
        "videotag.training.run.evaluate",
        lambda *_, **__: {"gap": next(found), "num_videos": num_videos, "num_without_labels": 0},
    )


def test_the_best_weights_stay_whatever_keep_says(tagger_dir, monkeypatch):
    measured(monkeypatch, [0.9, 0.5, 0.5, 0.5, 0.5], num_videos=1000)
    result = train(tagger_dir / "ck", overrides=[("TRAIN.keep", 1)])
    assert result.best_path == tagger_dir / "ck" / f"{NAME}_epoch0.pdparams"
    assert result.best_path.is_file()


@pytest.mark.parametrize(("num_videos", "best"), [(10, 4), (2500, 2), (100_000, 1)])
def test_the_best_epoch_is_the_last_one_within_a_standard_error_of_the_highest(
    tagger_dir, monkeypatch, num_videos, best
):
    """The standard error of 0.8 is 0.4 / sqrt(n): 0.126, 0.008 and 0.001."""
    measured(monkeypatch, [0.6, 0.8, 0.795, 0.7, 0.69], num_videos=num_videos)
    result = train(tagger_dir / "ck")
    assert result.best_path.name == f"{NAME}_epoch{best}.pdparams"
    newest = load_newest(tagger_dir / "ck", NAME).progress
    assert (newest.highest, newest.validations_since_best) == (0.8, 3)


def test_early_stop_ends_a_run_without_improvement_and_resuming_does_not_continue(tagger_dir):
    stop = [("TRAIN.early_stop", 2), ("TRAIN.decay_epochs", [1]), ("TRAIN.decay_gamma", 1e-9)]
    train(tagger_dir / "ck", overrides=stop)
    found = load_newest(tagger_dir / "ck", NAME)
    assert (found.progress.epoch, found.progress.validations_since_best) == (3, 2)
    train(tagger_dir / "ck", overrides=stop, resume=True)
    lines = (tagger_dir / "ck" / "train_log.jsonl").read_text(encoding="utf-8").splitlines()
    assert max(json.loads(line).get("epoch", 0) for line in lines) == 2


def test_a_card_with_the_old_key_without_gain_resumes(tagger_dir):
    stop = [("TRAIN.early_stop", 3), ("TRAIN.decay_epochs", [1]), ("TRAIN.decay_gamma", 1e-9)]
    train(tagger_dir / "ck", overrides=[*stop, ("TRAIN.epoch", 2)])
    for path in (tagger_dir / "ck").glob(f"{NAME}_epoch*.json"):
        card = json.loads(path.read_text(encoding="utf-8"))
        card["without_gain"] = card.pop("validations_since_best")
        path.write_text(json.dumps(card), encoding="utf-8")
    assert load_newest(tagger_dir / "ck", NAME).progress.validations_since_best == 1
    train(tagger_dir / "ck", overrides=stop, resume=True)
    found = load_newest(tagger_dir / "ck", NAME)
    assert (found.progress.epoch, found.progress.validations_since_best) == (4, 3)


def test_two_runs_in_one_folder_are_refused_and_leftovers_of_a_kill_go(tagger_dir):
    (tagger_dir / "ck").mkdir()
    leftover = tagger_dir / "ck" / f".{NAME}_epoch0.pdparams.1.2.partial"
    leftover.write_bytes(b"half")
    with folder_lock(tagger_dir / "ck"), pytest.raises(OutputError, match="another videotag process"):
        train(tagger_dir / "ck")
    assert leftover.exists()
    train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 1)])
    assert not leftover.exists()
