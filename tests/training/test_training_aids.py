"""What a TRAIN section may add to plain training, each against numbers made by hand or a plain run."""

from __future__ import annotations

import contextlib

from videotag.system.quiet_paddle import paddle

import numpy as np
import pytest

from videotag.config import load_config
from videotag.datasets.batches import Batch, slices
from videotag.errors import ConfigError, DeviceError, WeightsError
from videotag.formats.filelist import read_filelist
from videotag.formats.weight_files import read_weights, write_pdparams
from videotag.models import load_models
from videotag.models.sequence import masked_mean
from videotag.registry import ArraySpec
from videotag.train_section import FeatureTrainSection
from videotag.training.learner import Learner
from videotag.training.train import train_model

load_models()
nn = paddle.nn


class Mean(nn.Layer):
    """The mean over steps, a norm and one layer: enough to see what training does; `seen` steps a part."""

    inputs = (ArraySpec("rgb", (None, None, 3)), ArraySpec("rgb.mask", (None, None), "bool"))
    outputs = ("logits",)

    def __init__(self):
        super().__init__()
        self.seen = []
        self.norm = nn.BatchNorm1D(3)
        self.output = nn.Linear(3, 2)

    def forward(self, inputs):
        self.seen.append(inputs["rgb.mask"].shape[1])
        return {"logits": self.output(self.norm(masked_mean(inputs["rgb"], inputs["rgb.mask"])))}


def make_batch(count=6, seed=0, lengths=4):
    rng = np.random.default_rng(seed)
    mask = np.arange(4) < np.broadcast_to(lengths, count)[:, None]
    return Batch(
        ids=[str(i) for i in range(count)],
        inputs={
            "rgb": rng.standard_normal((count, 4, 3)).astype(np.float32) * mask[:, :, None],
            "rgb.mask": mask,
        },
        labels=rng.integers(0, 2, (count, 2)).astype(np.float32),
    )


def make_learner(model=None, **options):
    paddle.seed(5)
    settings = {"optimizer": "momentum", "momentum": 0.0, "learning_rate": 0.1, "weight_decay": 0.0}
    train = FeatureTrainSection(**settings | options)
    return Learner(model or Mean(), train, "multi_label", steps_per_epoch=100, num_classes=2)


def weights_of(learner):
    """Those that train: Paddle counts a norm's running means among the parameters."""
    return {n: p.numpy().copy() for n, p in learner.model.named_parameters() if not p.stop_gradient}


@pytest.mark.parametrize("options", [{}, {"sample_steps": 3}])
@pytest.mark.parametrize("lengths", [4, (1, 1, 2, 2, 4, 3)])
def test_a_batch_in_parts_makes_the_same_step(options, lengths):
    longest = options.get("sample_steps", 4)
    results = []
    for parts in (1, 2, 4, 99):
        model = Mean()
        model.norm = nn.Identity()  # batch norm would see the parts
        model.output.weight.set_value(paddle.ones([3, 2]))
        learner = make_learner(model, accumulate_steps=parts, **options)
        learner.start_epoch()
        loss, rate = learner.learn(make_batch(lengths=lengths), step=0, seed=1)
        results.append((loss.item(), weights_of(learner)))
        assert rate == 0.1
        whole = [4] * 6 if lengths == 4 else lengths
        cut = [max(min(n, longest) for n in whole[rows]) for rows in slices(6, parts)]
        assert model.seen == cut, "each part has as many steps as its longest video"
    for loss, weights in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-5)
        for name, array in weights.items():
            np.testing.assert_allclose(array, results[0][1][name], rtol=1e-5, atol=1e-7)


def test_the_running_mean_follows_its_formula():
    learner = make_learner(ema_decay=0.75)
    before = weights_of(learner)
    learner.start_epoch()
    mean = before
    for step in range(3):
        learner.learn(make_batch(seed=step), step=step, seed=step)
        now = weights_of(learner)
        mean = {name: 0.75 * mean[name] + 0.25 * now[name] for name in now}
    with learner.averaged() as model:
        state = dict(model.named_parameters())
        for name, array in mean.items():
            np.testing.assert_allclose(state[name].numpy(), array, rtol=1e-5, atol=1e-7)
    for name, array in weights_of(learner).items():
        np.testing.assert_array_equal(array, now[name])


def test_frozen_parameters_stay_and_a_frozen_norm_keeps_its_means():
    learner = make_learner(freeze=["norm.*"])
    before, scale = weights_of(learner), learner.model.norm.weight.numpy().copy()
    learner.start_epoch()
    learner.learn(make_batch(), step=0, seed=0)
    after = weights_of(learner)
    assert np.array_equal(learner.model.norm.weight.numpy(), scale)
    assert not np.array_equal(before["output.weight"], after["output.weight"])
    assert np.all(learner.model.norm._mean.numpy() == 0.0)
    free = make_learner()
    free.start_epoch()
    free.learn(make_batch(), step=0, seed=0)
    assert not np.all(free.model.norm._mean.numpy() == 0.0)


def test_the_running_mean_of_frozen_parameters_is_exactly_they():
    learner = make_learner(freeze=["norm.*"], ema_decay=0.999)
    frozen = np.array([0.1, 0.7, 1.3], np.float32)
    learner.model.norm.weight.set_value(paddle.to_tensor(frozen))
    learner.start_epoch()
    for step in range(50):
        learner.learn(make_batch(seed=step), step=step, seed=step)
    with learner.averaged() as model:
        np.testing.assert_array_equal(model.norm.weight.numpy(), frozen)


def test_rates_per_group_scale_the_step_and_the_first_pattern_counts():
    steps = {}
    for factors in ({}, {"output.weight": 0.5, "output.*": 0.0}):
        learner = make_learner(lr_factors=factors)
        before = weights_of(learner)
        learner.start_epoch()
        learner.learn(make_batch(), step=0, seed=0)
        after = weights_of(learner)
        steps[bool(factors)] = {name: after[name] - before[name] for name in after}
    np.testing.assert_allclose(steps[True]["output.weight"], 0.5 * steps[False]["output.weight"], rtol=1e-4)
    assert np.all(steps[True]["output.bias"] == 0.0)
    np.testing.assert_array_equal(steps[True]["norm.weight"], steps[False]["norm.weight"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"freeze": ["backbone.*"]},
            ConfigError,
            r"TRAIN.freeze: 'backbone.\*' matches no parameter; there are: ",
        ),
        ({"lr_factors": {"x": 1.0}}, ConfigError, "TRAIN.lr_factors: 'x' matches no parameter"),
        ({"freeze": ["*"]}, ConfigError, "freeze all parameters; freeze fewer"),
        ({"lr_factors": {"*": 0.0}}, ConfigError, "leave no parameter to train; set one above 0"),
        ({"precision": "bf16"}, DeviceError, "TRAIN.precision is bf16, which needs a GPU"),
    ],
)
def test_aids_that_cannot_be_had_are_errors(options, error, message):
    with pytest.raises(error, match=message):
        make_learner(**options)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_precision_reaches_paddle_on_a_gpu(monkeypatch, precision):
    """What Paddle is told; the device is made up, as there is none to compute on."""
    asked = []
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(
        paddle.amp, "auto_cast", lambda **options: asked.append(options) or contextlib.nullcontext()
    )
    real = paddle.amp.GradScaler
    scalers = []

    def make_scaler(**options):
        scalers.append(options)
        return real(enable=False)

    monkeypatch.setattr(paddle.amp, "GradScaler", make_scaler)
    learner = make_learner(precision=precision)
    learner.start_epoch()
    learner.learn(make_batch(), step=0, seed=0)
    assert asked == [{"dtype": {"fp16": "float16", "bf16": "bfloat16"}[precision]}]
    assert scalers[0]["enable"] == (precision == "fp16")


# ---------------------------------------------------------------- pretrained weights of other classes


def train(save_dir, *, labels=None, overrides=()):
    config = load_config("tagger.yaml", overrides=list(overrides))
    num_classes = config.model.num_classes
    entries = read_filelist(config.train.filelist, labels="required", num_classes=num_classes)
    return train_model(config, entries, [], save_dir=save_dir, labels=labels).last_path


TINY_STEP = [("TRAIN.learning_rate", 1e-12), ("TRAIN.epoch", 1)]


def test_other_classes_keep_what_fits_and_name_what_starts_anew(tagger_dir, caplog):
    old = train(tagger_dir / "old")
    new = train(
        tagger_dir / "new", overrides=[*TINY_STEP, ("MODEL.num_classes", 6), ("TRAIN.pretrain", str(old))]
    )
    assert "reinitialized: output.weight (8, 6) (in the file: (8, 4)), output.bias (6,)" in caplog.text
    old_state, new_state = read_weights(old), read_weights(new)
    for name in old_state:
        if not name.startswith("output."):
            np.testing.assert_allclose(new_state[name], old_state[name], atol=1e-6)


def test_extended_labels_keep_the_weights_of_shared_names(tagger_dir, caplog):
    old = train(tagger_dir / "old", labels=["cat", "dog", "cat", "鲸"])
    options = [
        *TINY_STEP,
        ("MODEL.num_classes", 6),
        ("TRAIN.pretrain", str(old)),
        ("TRAIN.extend_labels", True),
    ]
    new = train(tagger_dir / "new", labels=["鲸", "bird", "cat", "fish", "cat", "cow"], overrides=options)
    assert "3 of 6 classes keep their weights" in caplog.text
    old_state, new_state = read_weights(old), read_weights(new)
    for new_id, old_id in ((0, 3), (2, 0), (4, 2)):  # the first "cat" is the first, the second the second
        for name in ("output.weight", "output.bias"):
            np.testing.assert_allclose(new_state[name][..., new_id], old_state[name][..., old_id], atol=1e-6)
    assert not np.allclose(new_state["output.weight"][:, 1], old_state["output.weight"][:, 1], atol=1e-3)


def test_the_old_label_file_may_lie_elsewhere(tagger_dir, caplog):
    old = train(tagger_dir / "old")
    (tagger_dir / "elsewhere.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    extend = [("TRAIN.pretrain", str(old)), ("TRAIN.extend_labels", True)]
    options = [*TINY_STEP, *extend, ("TRAIN.old_label_file", "elsewhere.txt")]
    new = train(tagger_dir / "new", labels=["d", "x", "y", "z"], overrides=options)
    assert "1 of 4 classes keep their weights" in caplog.text
    np.testing.assert_allclose(
        read_weights(new)["output.weight"][:, 0], read_weights(old)["output.weight"][:, 3], atol=1e-6
    )


def test_a_file_without_the_last_layer_keeps_no_class(tagger_dir, caplog):
    old = train(tagger_dir / "old", labels=list("abcd"))
    state = {n: a for n, a in read_weights(old).items() if not n.startswith("output.")}
    write_pdparams(tagger_dir / "old" / "bare.pdparams", state)
    bare = str(tagger_dir / "old" / "bare.pdparams")
    options = [*TINY_STEP, ("TRAIN.pretrain", bare), ("TRAIN.extend_labels", True)]
    train(tagger_dir / "new", labels=list("abcd"), overrides=options)
    assert "reinitialized: output.weight (8, 4) (in the file: missing)" in caplog.text
    assert "classes keep their weights" not in caplog.text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (("TRAIN.extend_labels", True), "extend_labels: has no effect without pretrain; set that too"),
        (("TRAIN.old_label_file", "labels.txt"), "old_label_file: has no effect without extend_labels"),
        (("TRAIN.accumulate_steps", 5), "5 parts of a batch of 4; give fewer"),
        (("TRAIN.momentum", 0.5), "momentum: has no effect without optimizer=momentum; set that too"),
    ],
)
def test_settings_that_would_do_nothing_are_errors(tagger_dir, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config("tagger.yaml", overrides=[override])


def test_extending_needs_both_label_lists(tagger_dir):
    old = train(tagger_dir / "old")
    extend = [("TRAIN.pretrain", str(old)), ("TRAIN.extend_labels", True)]
    with pytest.raises(ConfigError, match=r"the class names of .* are not known; give its label file with"):
        train(tagger_dir / "new", overrides=extend)
    (tagger_dir / "old" / "labels.txt").write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="the new class names are missing; give --label_file"):
        train(tagger_dir / "new", overrides=extend)
    with pytest.raises(
        WeightsError, match=r"output.weight has shape \(8, 4\), expected \(8, 2\) for its 2 labels"
    ):
        train(tagger_dir / "new", labels=list("abcd"), overrides=extend)
