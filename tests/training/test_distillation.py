"""Several networks as one, learning from teachers, and the learner's augmentation: formulas and mistakes."""

from __future__ import annotations

from videotag.system.quiet_paddle import paddle

import numpy as np
import pytest

from videotag.config import load_config
from videotag.datasets.batches import Batch
from videotag.errors import ConfigError, WeightsError
from videotag.formats.filelist import read_filelist
from videotag.formats.weight_files import read_weights
from videotag.inference.ensemble import Ensemble
from videotag.inference.tasks import task_scores
from videotag.models import load_models
from videotag.registry import ArraySpec
from videotag.train_section import FeatureTrainSection
from videotag.training.learner import Learner
from videotag.training.train import train_model

load_models()
nn = paddle.nn
INPUTS = (ArraySpec("rgb", (None, None, 3)), ArraySpec("rgb.mask", (None, None), "bool"))

TWO_MODALITIES = """
MODEL: {name: MeanPool, feature_names: [rgb, audio], feature_dims: [3, 2], num_classes: 4}
TRAIN: {epoch: 4, batch_size: 4, learning_rate: 0.05, filelist: two.list, seed: 3, use_gpu: false,
        optimizer: adam}
"""


class Answer(nn.Layer):
    """A network that says the same logits whatever it sees, and notes what it saw and how."""

    inputs, outputs = INPUTS, ("logits",)

    def __init__(self, logits):
        super().__init__()
        self.logits = self.create_parameter(np.shape(logits))
        self.logits.set_value(np.asarray(logits, np.float32))
        self.seen = []

    def forward(self, inputs):
        self.seen.append((inputs["rgb"].numpy(), inputs["rgb.mask"].numpy(), self.training))
        return {"logits": self.logits[: len(inputs["rgb"])]}


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def softmax(x):
    e = np.exp(np.asarray(x, np.float64))
    return e / e.sum(axis=-1, keepdims=True)


def make_batch(labels, length=6):
    rng = np.random.default_rng(0)
    count = len(labels)
    return Batch(
        ids=[str(i) for i in range(count)],
        inputs={
            "rgb": rng.standard_normal((count, length, 3)).astype(np.float32),
            "rgb.mask": np.ones((count, length), bool),
        },
        labels=np.asarray(labels),
    )


def learn_once(model, batch, *, task="multi_label", teacher=None, num_classes=2, seed=1, **options):
    settings = {"optimizer": "momentum", "momentum": 0.0, "learning_rate": 0.1, "weight_decay": 0.0}
    train = FeatureTrainSection(**settings | options)
    learner = Learner(model, train, task, steps_per_epoch=10, teacher=teacher, num_classes=num_classes)
    learner.start_epoch()
    return learner.learn(batch, step=0, seed=seed)[0].item()


# ---------------------------------------------------------------- several networks as one


@pytest.mark.parametrize(("task", "probabilities"), [("multi_label", sigmoid), ("single_label", softmax)])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_an_ensemble_says_the_mean_probability(task, probabilities, temperature):
    logits = [[[2.0, -3.0, 0.0]], [[-1.0, 60.0, 5.0]], [[0.5, -70.0, -2.0]]]
    batch = make_batch(np.zeros((1, 3)))
    inputs = {name: paddle.to_tensor(x) for name, x in batch.inputs.items()}
    ensemble = Ensemble([Answer(x) for x in logits], task, temperature=temperature)
    expected = np.mean([probabilities(np.array(x) / temperature) for x in logits], axis=0)
    np.testing.assert_allclose(task_scores(task, ensemble(inputs)["logits"]).numpy(), expected, rtol=1e-5)


def test_an_ensemble_of_certain_networks_stays_certain():
    batch = make_batch(np.zeros((1, 2)))
    inputs = {name: paddle.to_tensor(x) for name, x in batch.inputs.items()}
    ensemble = Ensemble([Answer([[200.0, -200.0]]), Answer([[200.0, -200.0]])], "multi_label")
    np.testing.assert_allclose(ensemble(inputs)["logits"].numpy(), [[200.0, -200.0]], rtol=1e-5)


# ---------------------------------------------------------------- the distilled loss


def test_the_distilled_loss_follows_its_formula():
    own, taught = np.array([[1.0, -2.0], [0.5, 0.0]]), np.array([[3.0, -1.0], [-2.0, 4.0]])
    labels = np.array([[1, 0], [0, 1]], np.float32)

    def bce(logits, targets):
        p = sigmoid(logits)
        return -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum()

    teacher = Ensemble([Answer(taught)], "multi_label", temperature=3.0)
    teacher.eval()
    student = Answer(own)
    options = {"distill_from": ["x"], "distill_weight": 0.3, "distill_temperature": 3.0}
    loss = learn_once(student, make_batch(labels), teacher=teacher, **options)
    expected = 0.7 * bce(own, labels) + 0.3 * 9 * bce(own / 3, sigmoid(taught / 3))
    assert loss == pytest.approx(expected / 2, rel=1e-5)
    # The step: 0.1 times the gradient, (p - y) of each loss, T of the distilled one, over 2 videos.
    gradient = 0.7 * (sigmoid(own) - labels) + 0.3 * 3 * (sigmoid(own / 3) - sigmoid(taught / 3))
    np.testing.assert_allclose(student.logits.numpy(), own - 0.1 * gradient / 2, rtol=1e-5)
    np.testing.assert_array_equal(teacher.models[0].logits.numpy(), taught.astype(np.float32))


def test_the_distilled_loss_of_a_single_label_task_compares_distributions():
    own, taught = np.array([[1.0, -2.0, 0.0]]), np.array([[3.0, -1.0, 1.0]])
    teacher = Ensemble([Answer(taught)], "single_label", temperature=2.0)
    options = {
        "distill_from": ["x"],
        "distill_weight": 1.0,
        "distill_temperature": 2.0,
        "task": "single_label",
    }
    loss = learn_once(Answer(own), make_batch(np.array([2])), teacher=teacher, num_classes=3, **options)
    assert loss == pytest.approx(-4 * (softmax(taught / 2) * np.log(softmax(own / 2))).sum(), rel=1e-5)


def test_teachers_evaluate_and_see_the_very_batch_that_is_learned():
    teacher, student = Answer(np.zeros((4, 2))), Answer(np.zeros((4, 2)))
    teacher.eval()
    options = {"distill_from": ["x"], "mixup_alpha": 0.4, "sample_steps": 3, "accumulate_steps": 2}
    learn_once(student, make_batch(np.eye(4, 2, dtype=np.float32)), teacher=teacher, **options)
    assert len(teacher.seen) == len(student.seen) == 2
    for theirs, ours in zip(teacher.seen, student.seen, strict=True):
        np.testing.assert_array_equal(theirs[0], ours[0])
        np.testing.assert_array_equal(theirs[1], ours[1])
        assert (theirs[2], ours[2]) == (False, True)
        assert ours[0].shape == (2, 3, 3)


# ---------------------------------------------------------------- the learner's augmentation


@pytest.mark.parametrize(
    "options", [{"mixup_alpha": 0.4}, {"sample_steps": 2}, {"mixup_alpha": 1.0, "sample_steps": 2}]
)
def test_an_augmented_batch_in_parts_makes_the_same_step(options):
    class Mean(nn.Layer):
        inputs, outputs = INPUTS, ("logits",)

        def __init__(self):
            super().__init__()
            self.output = nn.Linear(3, 2)
            self.output.weight.set_value(paddle.ones([3, 2]))

        def forward(self, inputs):
            return {"logits": self.output(inputs["rgb"].mean(axis=1))}

    steps = []
    for parts in (1, 3):
        model = Mean()
        labels = np.eye(7, 2, dtype=np.float32)
        loss = learn_once(model, make_batch(labels), accumulate_steps=parts, **options)
        steps.append((loss, model.output.weight.numpy()))
    assert steps[0][0] == pytest.approx(steps[1][0], rel=1e-5)
    np.testing.assert_allclose(steps[0][1], steps[1][1], rtol=1e-5)


def test_the_step_s_seed_decides_what_is_seen():
    seen = []
    for seed in (1, 1, 2):
        model = Answer(np.zeros((4, 2)))
        batch = make_batch(np.eye(4, 2, dtype=np.float32))
        learn_once(model, batch, seed=seed, sample_steps=3, mixup_alpha=0.4)
        seen.append(model.seen[0][0])
    np.testing.assert_array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])


def test_videos_of_a_single_label_task_are_mixed_by_shares_of_their_classes():
    # All logits being 0, the loss is log C whatever the shares; their gradient must sum to 0 per video.
    model = Answer(np.zeros((5, 3)))
    options = {"task": "single_label", "num_classes": 3, "mixup_alpha": 1.0, "loss_reduction": "sum"}
    loss = learn_once(model, make_batch(np.array([0, 1, 2, 0, 1])), **options)
    assert loss == pytest.approx(5 * np.log(3), rel=1e-5)
    shares = model.logits.numpy() / 0.1 + 1 / 3  # each row of labels
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_less(-1e-5, shares)
    assert np.any((shares > 0.01) & (shares < 0.99))


# ---------------------------------------------------------------- whole runs


def train(save_dir, *, config="tagger.yaml", overrides=(), labels=None, resume=False):
    config = load_config(config, overrides=list(overrides))
    entries = read_filelist(config.train.filelist, labels="required", num_classes=config.model.num_classes)
    return train_model(config, entries, [], save_dir=save_dir, labels=labels, resume=resume).last_path


@pytest.fixture
def two_dir(work_dir):
    """A working folder with features of two modalities, two.list and two.yaml; tag c is in feature c % 3."""
    rng = np.random.default_rng(0)
    lines = []
    for index in range(12):
        rgb = rng.standard_normal((int(rng.integers(3, 9)), 3)).astype(np.float32)
        rgb[:, index % 3] += 2
        np.savez(f"{index}.npz", rgb=rgb, audio=rng.standard_normal((len(rgb), 2)).astype(np.float32))
        lines.append(f"{index}.npz {index % 3}")
    (work_dir / "two.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (work_dir / "two.yaml").write_text(TWO_MODALITIES, encoding="utf-8")
    return work_dir


def test_a_run_with_every_aid_resumes_to_the_same_weights_and_stays_a_number(two_dir):
    for name in ("MeanPool", "MaxPool"):
        train(two_dir / name, config="two.yaml", overrides=[("MODEL.name", name)], labels=list("abcd"))
    aids = [
        ("TRAIN.sample_steps", 4),
        ("TRAIN.mixup_alpha", 0.4),
        ("TRAIN.modality_dropout", 0.3),
        ("TRAIN.loss", "asymmetric"),
        ("TRAIN.distill_from", ["MeanPool", "MaxPool"]),
        ("TRAIN.distill_temperature", 2.0),
        ("TRAIN.accumulate_steps", 2),
    ]
    options = {"config": "two.yaml", "labels": list("abcd")}
    whole = read_weights(train(two_dir / "whole", overrides=aids, **options))
    train(two_dir / "broken", overrides=[*aids, ("TRAIN.epoch", 2)], **options)
    resumed = read_weights(train(two_dir / "broken", overrides=aids, resume=True, **options))
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)
    assert all(np.all(np.isfinite(array)) for array in whole.values())
    changed = [*aids, ("TRAIN.mixup_alpha", 0.5)]
    with pytest.raises(ConfigError, match=r"TRAIN.mixup_alpha: 0.5, but the run to resume has 0.4"):
        train(two_dir / "broken", overrides=changed, resume=True, **options)


def test_teachers_that_do_not_fit_are_errors_that_name_all_differences(two_dir):
    other = [("MODEL.feature_names", ["rgb", "sound"]), ("MODEL.num_classes", 5)]
    config = load_config("two.yaml", overrides=other)
    (two_dir / "other").mkdir()
    (two_dir / "other" / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    (two_dir / "other" / "a.pdparams").write_bytes(b"not looked at")
    (two_dir / "bare.pdparams").write_bytes(b"not looked at")
    (two_dir / "tsn").mkdir()
    (two_dir / "tsn" / "config.yaml").write_text("MODEL: {name: TSN, num_classes: 4}\n", encoding="utf-8")
    (two_dir / "tsn" / "a.pdparams").write_bytes(b"not looked at")
    train(two_dir / "named", config="two.yaml", labels=list("abcd"))
    teachers = ("TRAIN.distill_from", ["other", "bare", "tsn", "named", "ck/own"])
    (two_dir / "ck").mkdir()
    (two_dir / "ck" / "own.pdparams").write_bytes(b"not looked at")
    with pytest.raises(ConfigError) as caught:
        train(two_dir / "ck", config="two.yaml", overrides=[teachers], labels=list("abdc"))
    text = str(caught.value)
    where = "TRAIN.distill_from: other/a.pdparams and the student: "
    assert where + "inputs {'rgb': {'reader': 'features', 'width': 3}, 'sound': " in text
    assert where + "num_classes 5 and 4 differ; give weights with the same" in text
    assert "TRAIN.distill_from: bare.pdparams: no config belongs to it; put its config.yaml beside it" in text
    assert "TRAIN.distill_from: tsn/a.pdparams and the student: inputs {'frames': " in text
    assert "2 class names differ, first of class 2: 'c' and 'd'; give weights with the same labels" in text
    assert "ck/own.pdparams: is in --save_dir, whose weights change; choose another --save_dir" in text
    assert not (two_dir / "ck" / "config.yaml").exists()
    with pytest.raises(WeightsError, match=r"none: no weights; tried"):
        train(two_dir / "ck", config="two.yaml", overrides=[("TRAIN.distill_from", ["none"])])
    task = [("MODEL.task", "single_label"), ("TRAIN.distill_from", ["named"])]
    with pytest.raises(
        ConfigError, match="task multi_label and single_label differ; give weights with the same"
    ):
        train(two_dir / "ck", config="two.yaml", overrides=task)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [("TRAIN.asymmetric_clip", 0.1)],
            "asymmetric_clip: has no effect without loss=asymmetric",
        ),
        (
            [("TRAIN.asymmetric_gamma", [1, 2])],
            "asymmetric_gamma: has no effect without loss",
        ),
        (
            [("TRAIN.distill_weight", 0.1), ("TRAIN.distill_temperature", 2)],
            "distill_weight: has no effect without distill_from; set that too",
        ),
        (
            [("TRAIN.modality_dropout", 0.1)],
            r"TRAIN.modality_dropout: 0.1, but MODEL.feature_names \['rgb'\] is a single modality",
        ),
        (
            [("TRAIN.loss", "asymmetric"), ("MODEL.task", "single_label")],
            "TRAIN.loss: asymmetric needs a multi_label task, but the task is single_label",
        ),
        ([("TRAIN.asymmetric_gamma", [1])], "TRAIN.asymmetric_gamma.1: missing"),
        ([("TRAIN.mixup_alpha", 0)], "TRAIN.mixup_alpha: 0: input should be greater than 0"),
    ],
)
def test_aids_that_would_do_nothing_or_harm_are_errors(tagger_dir, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config("tagger.yaml", overrides=overrides)


@pytest.mark.parametrize(
    "override",
    [
        ("TRAIN.sample_steps", 3),
        ("TRAIN.modality_dropout", 0.1),
    ],
)
def test_a_tsn_has_no_aids_of_features(override):
    with pytest.raises(ConfigError, match=rf"{override[0]}: unknown key; "):
        load_config("configs/tsn-single.yaml", overrides=[override])
