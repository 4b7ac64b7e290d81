"""TRAIN keys for small sets: lbfgs, min_steps, cosine, automatic rates, weights of rare classes."""

from __future__ import annotations

import json
from pathlib import Path

from videotag.system.quiet_paddle import paddle

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.config import load_config
from videotag.errors import ConfigError
from videotag.formats.weight_files import read_weights
from videotag.train_section import TrainSection, VideoTrainSection
from videotag.training.logistic import LogisticRegression
from videotag.training.losses import TrainingLoss, class_weights
from videotag.training.optim import learning_rate, with_num_epochs

PROBE = ["--config=tagger.yaml", "--label_file=labels.txt", "--save_dir=ck"]


@pytest.fixture
def probe_dir(tagger_dir):
    """tagger_dir whose config is a linear probe."""
    text = """
MODEL: {name: StatisticsPool, feature_dims: [6], num_classes: 4, statistics: [mean, max]}
TRAIN: {optimizer: lbfgs, weight_decay: 0.1, filelist: features/train.list, use_gpu: false, seed: 1}
VALID: {filelist: features/val.list}
TEST: {filelist: features/test.list}
INFER: {filelist: features/test.list, backend: paddle, precision: f32}
"""
    (tagger_dir / "tagger.yaml").write_text(text, encoding="utf-8")
    return tagger_dir


def statistics_and_labels():
    x, y = [], []
    for line in Path("features/train.list").read_text(encoding="utf-8").splitlines():
        path, *ids = line.split()
        features = np.load(path)
        x.append(np.concatenate([features.mean(axis=0), features.max(axis=0)]))
        y.append([float(str(c) in ids) for c in range(4)])
    return np.array(x), np.array(y)


def test_lbfgs_trains_the_logistic_regression_of_the_standardized_statistics(probe_dir):
    assert main(["train", *PROBE]) == 0
    x, y = statistics_and_labels()
    mean, std = x.mean(axis=0), x.std(axis=0)
    std = np.maximum(std, np.median(std))
    z = np.clip((x - mean) / std, -3, 3)
    problem = LogisticRegression(z, y, task="multi_label", num_classes=4)
    weights, biases = problem.fit(0.1)
    state = read_weights(probe_dir / "ck/StatisticsPool.pdparams")
    np.testing.assert_allclose(state["standardize.center"], mean, atol=1e-4)
    np.testing.assert_allclose(state["standardize.scale"], 1 / std, rtol=1e-3)
    np.testing.assert_allclose(state["output.weight"], weights, atol=2e-3)
    np.testing.assert_allclose(state["output.bias"], biases, atol=2e-3)


def test_a_label_file_that_is_set_to_null_is_none(probe_dir):
    Path("null").write_text("a\nb\n", encoding="utf-8")
    text = Path("tagger.yaml").read_text(encoding="utf-8")
    Path("named.yaml").write_text(text.replace("num_classes: 4", "num_classes: 4, label_file: gone.txt"))
    for name in ("tagger", "named"):
        command = ["train", f"--config={name}.yaml", f"--save_dir={name}", "--set=MODEL.label_file=null"]
        assert main(command) == 0
        model = load_config(f"{name}/config.yaml").model
        assert (model.label_file, model.num_classes) == (None, 4)
        assert not Path(f"{name}/labels.txt").exists()


def test_a_chosen_penalty_is_recorded_and_kept_by_resume(probe_dir, capsys):
    options = ["--set=TRAIN.weight_decay=auto"]
    assert main(["train", *PROBE, *options]) == 0
    penalty = load_config("ck/config.yaml").train.weight_decay
    assert isinstance(penalty, float)
    before = (probe_dir / "ck/StatisticsPool.pdparams").read_bytes()
    capsys.readouterr()
    assert main(["train", *PROBE, *options, "--resume"]) == 0
    assert "nothing to train" in capsys.readouterr().err
    assert (probe_dir / "ck/StatisticsPool.pdparams").read_bytes() == before


def test_a_probe_is_evaluated_and_exported_like_any_model(probe_dir):
    assert main(["train", *PROBE]) == 0
    assert main(["eval", "--weights=ck", "--save_dir=results"]) == 0
    assert main(["export", "--weights=ck", "--to=paddle", "--output=exported"]) == 0
    assert main(["eval", "--weights=exported", "--save_dir=again", "--filelist=features/test.list"]) == 0
    first, second = (json.loads((probe_dir / d / "metrics.json").read_text()) for d in ("results", "again"))
    assert first["gap"] == pytest.approx(second["gap"], abs=1e-5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("TRAIN.mixup_alpha=0.4", "mixup_alpha: no effect with optimizer=lbfgs"),
        ("TRAIN.learning_rate=0.1", "learning_rate: no effect with optimizer=lbfgs"),
        ("TRAIN.epoch=50", "epoch: no effect with optimizer=lbfgs"),
        ("TRAIN.drop_last=true", "drop_last: no effect with optimizer=lbfgs"),
        ("TRAIN.ema_decay=0.9", "ema_decay: no effect with optimizer=lbfgs"),
        ("TRAIN.sample_steps=2", "sample_steps: no effect with optimizer=lbfgs"),
        ("MODEL.standardize=true", "StatisticsPool always standardizes"),
        ("TRAIN.weight_decay=0", "weight_decay: 0 has no optimum"),
        ("MODEL.fc_sizes=[3]", "also trains hidden.0.weight"),
    ],
)
def test_what_lbfgs_cannot_use_is_an_error(probe_dir, capsys, setting, message):
    assert main(["train", *PROBE, f"--set={setting}"]) == 2
    assert message in capsys.readouterr().err


def test_a_frozen_network_can_be_solved_too(tagger_dir):
    settings = ["TRAIN.optimizer=lbfgs", "TRAIN.epoch=1", "TRAIN.learning_rate=0.001"]
    settings += ["TRAIN.weight_decay=0.1"]
    frozen = "TRAIN.freeze=[pools.*, fc1.*, fc2.*]"
    assert main(["train", *PROBE, *(f"--set={text}" for text in [*settings, frozen])]) == 0


def test_automatic_weight_decay_without_lbfgs_is_an_error(tagger_dir, capsys):
    assert main(["train", *PROBE, "--set=TRAIN.weight_decay=auto"]) == 2
    assert "weight_decay: auto needs optimizer=lbfgs" in capsys.readouterr().err


def test_min_steps_adds_epochs_and_scales_the_decays():
    train = TrainSection(epoch=10, decay_epochs=[5], min_steps=100)
    more = with_num_epochs(train, steps_per_epoch=2)
    assert (more.epoch, more.decay_epochs) == (50, [25])
    assert with_num_epochs(train, steps_per_epoch=10) == train
    assert with_num_epochs(TrainSection(optimizer="lbfgs", epoch=10), steps_per_epoch=2).epoch == 1


def test_cosine_falls_from_the_full_rate_to_zero_after_the_warmup():
    train = TrainSection(schedule="cosine", epoch=4, learning_rate=1.0, warmup_epochs=1)
    rates = [learning_rate(step, train, steps_per_epoch=4) for step in range(17)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4:] == pytest.approx([0.5 * (1 + np.cos(np.pi * step / 12)) for step in range(13)])


def test_a_cosine_schedule_cannot_be_extended_by_resume(tagger_dir, capsys):
    options = ["--set=TRAIN.schedule=cosine", "--set=TRAIN.seed=3"]
    assert main(["train", *PROBE, *options]) == 0
    assert main(["train", *PROBE, *options, "--resume"]) == 0
    capsys.readouterr()
    assert main(["train", *PROBE, *options, "--resume", "--epoch=3"]) == 2
    assert "TRAIN.epoch: 3, but the run to resume has 2" in capsys.readouterr().err


@pytest.mark.parametrize("section", [TrainSection, VideoTrainSection])
def test_cosine_has_no_decay_epochs(section):
    with pytest.raises(ValueError, match="decay_epochs: has no effect without schedule=step"):
        section(schedule="cosine", decay_epochs=[3])


def test_few_steps_are_told_with_the_key_that_helps(tagger_dir, capsys):
    assert main(["train", *PROBE]) == 0
    text = capsys.readouterr().err
    assert "10 samples are 3 steps an epoch at TRAIN.batch_size=4, and 2 epochs are 6 steps" in text
    assert "TRAIN.min_steps=500" in text
    assert main(["train", *PROBE, "--set=TRAIN.min_steps=9"]) == 0
    text = capsys.readouterr().err
    assert "3 epochs" in text or "of 3" in text
    assert "TRAIN.min_steps" not in text


def test_an_automatic_rate_is_found_recorded_and_resumed_bit_for_bit(tagger_dir):
    options = ["--set=TRAIN.learning_rate=auto", "--set=TRAIN.optimizer=adam"]
    assert main(["train", *PROBE, *options]) == 0
    rate = load_config("ck/config.yaml").train.learning_rate
    assert 1e-5 <= rate <= 0.1
    whole = read_weights(tagger_dir / "ck/AttentionLSTM.pdparams")
    assert main(["train", *PROBE, *options, "--save_dir=half", "--epoch=1"]) == 0
    assert main(["train", *PROBE, *options, "--save_dir=half", "--epoch=2", "--resume"]) == 0
    assert load_config("half/config.yaml").train.learning_rate == rate
    for name, array in read_weights(tagger_dir / "half/AttentionLSTM.pdparams").items():
        np.testing.assert_array_equal(array, whole[name])


def test_a_standardized_run_resumes_with_its_own_mean(tagger_dir):
    options = ["--set=MODEL.standardize=true", "--set=TRAIN.seed=3"]
    assert main(["train", *PROBE, *options, "--epoch=1"]) == 0
    before = read_weights(tagger_dir / "ck/AttentionLSTM.pdparams")
    rows = np.concatenate([np.load(f"features/train{i}.npy") for i in range(10)])
    np.testing.assert_allclose(before["standardizers.rgb.center"], rows.mean(axis=0), atol=1e-5)
    assert main(["train", *PROBE, *options, "--epoch=2", "--resume"]) == 0
    after = read_weights(tagger_dir / "ck/AttentionLSTM.pdparams")
    np.testing.assert_array_equal(after["standardizers.rgb.center"], before["standardizers.rgb.center"])


def test_class_weights_are_inverse_to_counts_and_bounded():
    np.testing.assert_allclose(class_weights(np.array([100, 50, 1, 0])), [1, 2, 10, 10])


def loss_of(task, labels, logits, counts=None, **keys):
    train = TrainSection(**keys)
    value = TrainingLoss(train, task, counts)(paddle.to_tensor(logits), paddle.to_tensor(labels))
    return value.item()


LOGITS = np.array([[0.3, -1.0, 2.0], [1.5, 0.2, -0.4]], np.float32)


def softmax_losses(logits):
    return np.log(np.exp(logits).sum(axis=1, keepdims=True)) - logits  # (N, C), of every class


@pytest.mark.parametrize("soft", [False, True], ids=["ids", "one hot"])
def test_weighted_and_smoothed_single_label_losses_follow_their_formulas(soft):
    ids = np.array([2, 0])
    labels = np.eye(3, dtype=np.float32)[ids] if soft else ids
    losses = softmax_losses(LOGITS.astype(np.float64))
    own = losses[[0, 1], ids]
    weights = class_weights(np.array([10, 5, 2]))
    found = loss_of("single_label", labels, LOGITS, np.array([10, 5, 2]), class_weights="balanced")
    assert found == pytest.approx((weights[ids] * own).sum(), rel=1e-5)
    smoothed = loss_of("single_label", labels, LOGITS, label_smoothing=0.3)
    assert smoothed == pytest.approx((0.7 * own + 0.3 * losses.mean(axis=1)).sum(), rel=1e-5)
    shares = np.array([10, 5, 2]) / 17
    adjusted = loss_of("single_label", labels, LOGITS, np.array([10, 5, 2]), logit_adjustment=1.0)
    expected = softmax_losses(LOGITS.astype(np.float64) + np.log(shares))[[0, 1], ids].sum()
    assert adjusted == pytest.approx(expected, rel=1e-5)


def test_weighted_and_smoothed_multi_label_losses_follow_their_formulas():
    y = np.array([[1, 0, 1], [0, 1, 0]], np.float32)
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    weights = class_weights(np.array([10, 5, 2]))
    found = loss_of("multi_label", y, LOGITS, np.array([10, 5, 2]), class_weights="balanced")
    expected = -(weights * y * np.log(p) + (1 - y) * np.log(1 - p)).sum()
    assert found == pytest.approx(expected, rel=1e-5)
    soft = 0.8 * y + 0.1
    smoothed = loss_of("multi_label", y, LOGITS, label_smoothing=0.2)
    assert smoothed == pytest.approx(-(soft * np.log(p) + (1 - soft) * np.log(1 - p)).sum(), rel=1e-5)


def test_logit_adjustment_needs_a_single_label_task(tagger_dir):
    with pytest.raises(ConfigError, match=r"TRAIN\.logit_adjustment: 1\.0 needs a single_label task"):
        load_config("tagger.yaml", overrides=[("TRAIN.logit_adjustment", 1.0)])
