"""Fine-tuning on few videos: a freeze that ends, frozen norms, mixed clips, and the probe to start from."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from videotag.system.quiet_paddle import paddle

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.config import load_config
from videotag.datasets.batches import Batch
from videotag.errors import ConfigError
from videotag.formats.filelist import read_filelist
from videotag.formats.weight_files import read_weights
from videotag.media.synthetic import COLORS
from videotag.media.writer import write_video
from videotag.models import load_models
from videotag.models.contract import build_model
from videotag.registry import FRAMES, ArraySpec, get_model
from videotag.train_section import FeatureTrainSection, TrainSection, VideoTrainSection
from videotag.training.feature_augment import mixup
from videotag.training.last_layer_solver import LastLayerSolver
from videotag.training.learner import Learner
from videotag.training.probe import comparison_with_probe, needs_probe
from videotag.training.run_state import load_newest
from videotag.training.train import train_model

load_models()
nn = paddle.nn

TSN_YAML = """
MODEL: {name: TSN, num_layers: 18, num_classes: 3, topk: 3}
TRAIN: {seg_num: 2, short_size: 36, target_size: 32, batch_size: 4, epoch: 2, learning_rate: 0.01, seed: 1,
        decay_epochs: [9], filelist: train.list, use_gpu: false, num_reader_threads: 2}
VALID: {filelist: val.list}
"""
PER_EPOCH = 4  # steps
BACKBONE = {"freeze": ["backbone.*"]}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Nine films of one colour each with their lists; made once."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    lines = []
    for index in range(9):
        frames = np.full((4, 36, 48, 3), list(COLORS.values())[index % 3], np.uint8)
        frames = np.clip(frames + rng.integers(-20, 20, frames.shape), 0, 255).astype(np.uint8)
        write_video(folder / f"{index}.mp4", frames, fps=4)
        lines.append(f"{index}.mp4 {index % 3}")
    (folder / "train.list").write_text("\n".join(lines[:6]) + "\n", encoding="utf-8")
    (folder / "val.list").write_text("\n".join(lines[6:]) + "\n", encoding="utf-8")
    (folder / "tsn.yaml").write_text(TSN_YAML, encoding="utf-8")
    return folder


@pytest.fixture
def tsn_dir(films, work_dir):
    """An empty working folder with the films."""
    for path in films.iterdir():
        (work_dir / path.name).hardlink_to(path)
    return work_dir


def train(save_dir, *overrides, resume=False):
    config = load_config("tsn.yaml", overrides=list(overrides))
    entries = read_filelist("train.list", labels="required", num_classes=3)
    valid = read_filelist("val.list", num_classes=3)
    return train_model(config, entries, valid, save_dir=save_dir, resume=resume)


def make_learner(**options):
    paddle.seed(5)
    entry = get_model("TSN")
    model = build_model(entry, entry.config(name="TSN", num_layers=18, num_classes=3))
    section = VideoTrainSection(**{"learning_rate": 0.01, "optimizer": "adam"} | options)
    return Learner(model, section, "single_label", steps_per_epoch=PER_EPOCH, num_classes=3)


def make_batch(seed=0):
    rng = np.random.default_rng(seed)
    clips = rng.integers(0, 256, (3, 2, 32, 32, 3)).astype(np.uint8)
    return Batch(list("abc"), {FRAMES: clips}, np.arange(3))


def state_of(learner):
    return {name: value.numpy().copy() for name, value in learner.model.state_dict().items()}


def changed(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


def is_statistic(name):
    return name.endswith(("._mean", "._variance"))


def same(one, two):
    one, two = read_weights(one), read_weights(two)
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


# ---------------------------------------------------------------- a freeze that ends


def test_frozen_layers_keep_weights_and_statistics_until_the_freeze_ends():
    learner = make_learner(**BACKBONE, freeze_epochs=0.5)
    learner.start_epoch()
    start = state_of(learner)
    for step in range(2):
        learner.learn(make_batch(), step=step, seed=step)
    frozen = state_of(learner)
    assert changed(start, frozen) == {"fc.weight", "fc.bias"}
    learner.learn(make_batch(), step=2, seed=2)  # 0.5 epochs of 4 steps are 2 steps
    after = state_of(learner)
    assert changed(frozen, after) == set(after)


def test_no_gradient_is_computed_for_the_frozen_part():
    learner = make_learner(**BACKBONE, freeze_epochs=0.25)
    needs_gradient = []
    learner.model.backbone.register_forward_post_hook(
        lambda layer, inputs, features: needs_gradient.append(not features.stop_gradient)
    )
    learner.start_epoch()
    for step in range(2):
        learner.learn(make_batch(), step=step, seed=step)
    assert needs_gradient == [False, True]


def test_without_freeze_epochs_the_freeze_never_ends():
    learner = make_learner(**BACKBONE)
    learner.start_epoch()
    start = state_of(learner)
    learner.learn(make_batch(), step=10**6, seed=0)
    assert changed(start, state_of(learner)) == {"fc.weight", "fc.bias"}


def test_rates_per_group_hold_after_the_freeze_too():
    moved = {}
    for factor in (1.0, 0.5):
        factors = {"backbone.*": factor}
        learner = make_learner(
            **BACKBONE, freeze_epochs=0.25, lr_factors=factors, optimizer="momentum", weight_decay=0
        )
        learner.start_epoch()
        learner.learn(make_batch(), step=0, seed=0)
        before = state_of(learner)
        learner.learn(make_batch(), step=1, seed=1)
        name = "backbone.conv1.weight"
        assert name in before
        moved[factor] = state_of(learner)[name] - before[name]
    np.testing.assert_allclose(moved[0.5], 0.5 * moved[1.0], rtol=1e-2, atol=1e-7)


def test_a_running_mean_starts_for_a_parameter_when_it_is_unfrozen():
    learner = make_learner(**BACKBONE, freeze_epochs=0.25, ema_decay=0.75)
    learner.start_epoch()
    learner.learn(make_batch(), step=0, seed=0)
    name = "backbone.conv1.weight"
    before = state_of(learner)[name]
    learner.learn(make_batch(), step=1, seed=1)
    expected = 0.75 * before + 0.25 * state_of(learner)[name]
    with learner.averaged():
        np.testing.assert_allclose(state_of(learner)[name], expected, rtol=1e-5, atol=1e-7)


FREEZES = {
    "in the frozen phase": [("TRAIN.freeze_epochs", 1.5)],
    "after it": [("TRAIN.freeze_epochs", 0.5)],
    "at its end": [("TRAIN.freeze_epochs", 1.0)],
    "adam, running mean": [
        ("TRAIN.freeze_epochs", 0.5),
        ("TRAIN.optimizer", "adam"),
        ("TRAIN.ema_decay", 0.9),
    ],
    "frozen norms, mixup, probe": [
        ("TRAIN.freeze_epochs", 1.5),
        ("TRAIN.freeze_norms", True),
        ("TRAIN.mixup_alpha", 0.4),
        ("TRAIN.start_from_probe", True),
    ],
}


@pytest.mark.parametrize("aids", FREEZES.values(), ids=FREEZES)
def test_a_run_resumed_in_either_phase_ends_in_the_weights_of_an_unbroken_one(tsn_dir, aids):
    aids = [("TRAIN.freeze", ["backbone.*"]), *aids]
    unbroken = train(tsn_dir / "unbroken", *aids)
    train(tsn_dir / "broken", *aids, ("TRAIN.epoch", 1))
    resumed = train(tsn_dir / "broken", *aids, resume=True)
    assert same(resumed.last_path, unbroken.last_path)
    assert resumed.best == unbroken.best
    assert resumed.probe == unbroken.probe


def test_a_learner_restored_in_the_frozen_phase_unfreezes_as_if_it_had_not_stopped():
    ends = []
    for stops in (False, True):
        learner = make_learner(**BACKBONE, freeze_epochs=0.5)
        learner.start_epoch()
        learner.learn(make_batch(), step=0, seed=0)
        if stops:
            weights, arrays = state_of(learner), learner.state()
            learner = make_learner(**BACKBONE, freeze_epochs=0.5)
            learner.model.set_state_dict({n: paddle.to_tensor(a) for n, a in weights.items()})
            learner.restore(arrays)
            learner.start_epoch()
        for step in range(1, 4):
            learner.learn(make_batch(step), step=step, seed=step)
        ends.append(state_of(learner))
    assert changed(*ends) == set()


def test_freeze_epochs_without_freeze_is_an_error():
    with pytest.raises(ValueError, match="freeze_epochs: has no effect without freeze; set that too"):
        VideoTrainSection(freeze_epochs=1)


def test_optimizer_lbfgs_has_no_use_for_them():
    with pytest.raises(
        ValueError, match="freeze_epochs, freeze_norms, mixup_alpha, start_from_probe: no effect"
    ):
        FeatureTrainSection(
            optimizer="lbfgs",
            weight_decay="auto",
            freeze=["a.*"],
            freeze_epochs=1,
            freeze_norms=True,
            mixup_alpha=0.2,
            start_from_probe=True,
        )


def test_optimizer_lbfgs_trains_the_last_layer_of_a_network_that_freeze_names(tagger_dir):
    config = load_config(
        "tagger.yaml",
        overrides=[
            ("TRAIN.optimizer", "lbfgs"),
            ("TRAIN.epoch", 1),
            ("TRAIN.learning_rate", 0.001),  # the default, in place of the config's
            ("TRAIN.weight_decay", 0.1),
            ("TRAIN.freeze", ["pools.*", "fc?.*"]),
        ],
    )
    entries = read_filelist("features/train.list", labels="required", num_classes=4)
    train_model(config, entries, [], save_dir=tagger_dir / "ck")
    assert (tagger_dir / "ck" / "AttentionLSTM_epoch0.pdparams").is_file()


# ---------------------------------------------------------------- frozen norms


def test_frozen_norms_keep_their_statistics_and_train_scale_and_shift():
    learner = make_learner(freeze_norms=True)
    learner.start_epoch()
    start = state_of(learner)
    learner.learn(make_batch(), step=0, seed=0)
    after = state_of(learner)
    statistics = {name for name in after if is_statistic(name)}
    assert len(statistics) == 40
    assert changed(start, after) == set(after) - statistics


def test_frozen_norms_make_a_video_independent_of_its_batch():
    learner = make_learner(freeze_norms=True)
    learner.start_epoch()
    clips = paddle.to_tensor(make_batch().inputs[FRAMES])
    whole = learner.model({FRAMES: clips})["logits"].numpy()
    alone = learner.model({FRAMES: clips[:1]})["logits"].numpy()
    np.testing.assert_allclose(alone, whole[:1], rtol=1e-4, atol=1e-5)


class Plain(nn.Layer):
    """A model without norms, one of whose inputs is token ids."""

    inputs = (ArraySpec("words", (None, 3), "int64"),)
    outputs = ("logits",)

    def __init__(self):
        super().__init__()
        self.output = nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze_norms": True}, "TRAIN.freeze_norms: the model has no batch norm; leave it out"),
        (
            {"mixup_alpha": 0.2},
            "TRAIN.mixup_alpha: the input words is int64, which cannot be mixed; leave it",
        ),
    ],
)
def test_what_a_model_has_no_use_for_is_an_error(options, message):
    with pytest.raises(ConfigError, match=message):
        Learner(Plain(), TrainSection(**options), "multi_label", steps_per_epoch=1, num_classes=2)


# ---------------------------------------------------------------- mixed clips


class Draws:
    """A generator whose draws are written in the test."""

    def beta(self, *_):
        return np.array([0.25, 1.0])

    def permutation(self, _):
        return np.array([1, 0])


def test_frames_are_mixed_with_their_partners_and_stay_uint8():
    clips = paddle.to_tensor(
        np.array([[[[[0, 100, 255]]]], [[[[201, 100, 0]]]]], np.uint8)
    )  # (2, 1, 1, 1, 3)
    labels = paddle.to_tensor(np.eye(2, dtype=np.float32))
    mixed, targets = mixup({FRAMES: clips}, labels, 0.2, Draws())
    assert mixed[FRAMES].dtype == paddle.uint8
    # 0.25 * 0 + 0.75 * 201 = 150.75; 0.25 * 255 = 63.75; the second video keeps itself.
    np.testing.assert_array_equal(mixed[FRAMES].numpy().reshape(2, 3), [[151, 100, 64], [201, 100, 0]])
    np.testing.assert_allclose(targets.numpy(), [[0.25, 0.75], [0, 1]])


def test_a_tsn_sees_mixed_frames_of_the_dtype_that_it_declares():
    seen = []
    for options in ({}, {"mixup_alpha": 1.0}):
        learner = make_learner(**options)
        learner.model.register_forward_pre_hook(lambda layer, given: seen.append(given[0][FRAMES]))
        learner.start_epoch()
        learner.learn(make_batch(), step=0, seed=0)
    plain, mixed = seen
    assert str(mixed.dtype) == "paddle.uint8"
    assert learner.model.inputs[0].dtype == "uint8"
    assert not np.array_equal(plain.numpy(), mixed.numpy())


# ---------------------------------------------------------------- the linear probe


def test_a_run_that_starts_from_the_probe_starts_with_its_metric(tsn_dir, caplog):
    tiny = [("TRAIN.learning_rate", 1e-12), ("TRAIN.epoch", 1), ("TRAIN.freeze_norms", True)]
    plain = train(tsn_dir / "plain", *tiny)
    assert plain.probe is None, "not measured, as there are no pretrained weights"
    with caplog.at_level("INFO", "videotag"):
        probed = train(tsn_dir / "probed", *tiny, ("TRAIN.start_from_probe", True))
    assert probed.probe == pytest.approx(probed.best["top1"])
    assert probed.best["loss"] < 0.7 * plain.best["loss"], "colours are linear in any features"
    assert "TRAIN.start_from_probe: the last layer starts at loss" in caplog.text


def test_fine_tuning_on_few_videos_is_compared_with_the_probe_and_not_changed_by_it(
    tsn_dir, monkeypatch, capsys
):
    train(tsn_dir / "first", ("TRAIN.epoch", 1))
    pretrain = ("TRAIN.pretrain", "first")
    compared = train(tsn_dir / "compared", pretrain)
    assert compared.probe is not None
    assert load_newest(tsn_dir / "compared", "TSN").progress.probe == compared.probe
    sizes = [
        f"--set=TEST.{key}={getattr(load_config('tsn.yaml').train, key)}"
        for key in ("seg_num", "short_size", "target_size")
    ]
    evaluation = ["eval", "--weights=compared/probe", "--filelist=val.list", "--save_dir=of_probe"]
    assert main([*evaluation, *sizes]) == 0
    of_probe = json.loads((tsn_dir / "of_probe/metrics.json").read_text(encoding="utf-8"))
    assert of_probe["top1"] == pytest.approx(compared.probe)
    with monkeypatch.context() as patch:
        patch.setattr("videotag.training.probe.SMALL_SET", 6)
        alone = train(tsn_dir / "alone", pretrain)
    assert alone.probe is None
    assert same(compared.last_path, alone.last_path)
    words = ["train", "--config=tsn.yaml", "--pretrain=first", "--save_dir=cli", "--learning_rate=1e-12"]
    assert main(words) == 0
    out = capsys.readouterr().out
    advice = "training did not help: use --weights=cli/probe, or `videotag fit --extractor_weights=first`"
    assert f"before training; {advice}" in out
    assert main([*words, "--epoch=1"]) == 0
    assert (tsn_dir / "cli/earlier-1/probe/TSN.pdparams").is_file()


def test_the_comparison_says_what_to_use_where_training_did_not_help():
    compare = functools.partial(comparison_with_probe, save_dir=Path("none"))
    text = compare({"top1": 0.5}, 0.61, task="single_label", pretrain="mine")
    assert text == (
        "top1 on VALID: 0.5000 trained, 0.6100 by a linear probe before training; training did not help: use "
        "`videotag fit --extractor_weights=mine`"
    )
    text = compare({"gap": 0.5}, 0.5, task="multi_label", pretrain=None)
    assert text.endswith("training did not help: use `videotag fit`")
    text = compare({"gap": 0.51}, 0.5, task="multi_label", pretrain="mine")
    assert text == "gap on VALID: 0.5100 trained, 0.5000 by a linear probe before training"


@pytest.mark.parametrize(
    ("train", "num_samples", "validated", "expected"),
    [
        (VideoTrainSection(pretrain="a"), 4999, True, True),
        (VideoTrainSection(pretrain="a"), 5000, True, False),
        (VideoTrainSection(pretrain="a"), 10, False, False),
        (VideoTrainSection(), 10, True, False),
        (FeatureTrainSection(pretrain="a"), 10, True, False),
        (FeatureTrainSection(start_from_probe=True), 10**6, False, True),
    ],
)
def test_the_probe_is_solved_where_it_is_cheap_or_asked_for(train, num_samples, validated, expected):
    assert needs_probe(train, num_samples=num_samples, validated=validated) is expected


def test_a_probe_that_cannot_be_solved_is_an_error_only_if_it_is_asked_for(tsn_dir):
    (tsn_dir / "train.list").unlink()
    (tsn_dir / "train.list").write_text("0.mp4 0\n", encoding="utf-8")
    train(tsn_dir / "first", ("TRAIN.epoch", 1))
    assert train(tsn_dir / "again", ("TRAIN.epoch", 1), ("TRAIN.pretrain", "first")).probe is None
    with pytest.raises(ConfigError, match=r"TRAIN\.start_from_probe needs at least 2"):
        train(tsn_dir / "ck", ("TRAIN.start_from_probe", True))
    assert not (tsn_dir / "ck" / "config.yaml").exists()


def test_a_network_without_a_linear_last_layer_cannot_start_from_the_probe():
    model = nn.Sequential(nn.Linear(3, 2))
    section = TrainSection(start_from_probe=True)
    solver = LastLayerSolver(model, section, "multi_label", num_classes=2, name="Own", key="start_from_probe")
    message = "TRAIN.start_from_probe solves one linear layer, which Own does not have; leave it out"
    with pytest.raises(ConfigError, match=message):
        solver.read([])


def test_extend_labels_and_the_probe_exclude_each_other():
    with pytest.raises(
        ValueError, match="start_from_probe: replaces the last layer, whose weights extend_labels"
    ):
        VideoTrainSection(start_from_probe=True, extend_labels=True, pretrain="a")


def test_the_recipe_for_few_videos_trains_on_tiny_ones_with_the_classes_of_the_label_file(tsn_dir, capsys):
    train(tsn_dir / "first", ("TRAIN.epoch", 1))
    (tsn_dir / "names.txt").write_text("a\nb\nc\n", encoding="utf-8")
    tiny = ["short_size=36", "target_size=32", "min_steps=null", "epoch=1", "use_gpu=false", "batch_size=3"]
    words = ["--set=MODEL.backbone=resnet18", "--label_file=names.txt", "--pretrain=first"]
    words += [f"--set=TRAIN.{each}" for each in tiny]
    assert main(["train", "--config=configs/own_videos_tsn.yaml", *words, "--save_dir=ck"]) == 0
    out, err = capsys.readouterr()
    assert "MODEL.num_classes: 3 of names.txt instead of 40 of configs/own_videos_tsn.yaml\n" in err
    assert load_config("ck/config.yaml").model.num_classes == 3
    assert "top1 on VALID: " in out
    assert "by a linear probe before training" in out
