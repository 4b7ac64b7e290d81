"""Training, evaluation and prediction of a tagger on tiny features."""

from __future__ import annotations

import json

from videotag.system.quiet_paddle import paddle

import numpy as np
import pytest

from videotag.config import load_config
from videotag.datasets.order import ordered_groups
from videotag.errors import FeatureFileError, FileListError, WeightsError
from videotag.formats.filelist import read_filelist
from videotag.formats.weight_files import read_weights
from videotag.inference.data import evaluation_batches, open_dataset
from videotag.inference.evaluate import evaluate, in_layers
from videotag.inference.load_weights import load_weights
from videotag.inference.predict import Tag, predict, top_tags
from videotag.inference.tasks import task_loss
from videotag.inference.trained_model import ModelSource, TrainedModel
from videotag.metrics import Mistakes, gap, hit_at_one, mean_ap, perr
from videotag.models import load_models
from videotag.training.checkpoint import save_weights
from videotag.training.run import DivergedError
from videotag.training.train import train_model
from videotag.weights import FoundWeights

load_models()


def train(save_dir, *, overrides=(), labels=None, pretrain=None, **options):
    config = load_config("tagger.yaml", overrides=[*overrides, ("TRAIN.pretrain", pretrain)])
    entries = read_filelist(config.train.filelist, labels="required", num_classes=4)
    valid = read_filelist(config.valid.filelist, num_classes=4)
    return train_model(config, entries, valid, save_dir=save_dir, labels=labels, **options)


def events(save_dir, kind):
    lines = (save_dir / "train_log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == kind]


def state(path):
    return {name: array.copy() for name, array in read_weights(path).items()}


def test_a_run_leaves_weights_of_every_epoch_with_config_and_labels_beside(tagger_dir):
    result = train(tagger_dir / "ck", labels=["cat", "dog", "bird", "鲸"])
    names = sorted(p.name for p in (tagger_dir / "ck").iterdir())
    assert names == [
        ".videotag.lock",
        "AttentionLSTM.pdparams",
        "AttentionLSTM_best.pdparams",
        *(f"AttentionLSTM_epoch{n}.{kind}" for n in (0, 1) for kind in ("json", "pdopt", "pdparams")),
        "config.yaml",
        "labels.txt",
        "train_log.jsonl",
    ]
    assert (tagger_dir / "ck" / "labels.txt").read_text(encoding="utf-8") == "cat\ndog\nbird\n鲸\n"
    assert load_config(tagger_dir / "ck" / "config.yaml") == load_config("tagger.yaml")
    last, epoch1 = state(result.last_path), state(tagger_dir / "ck" / "AttentionLSTM_epoch1.pdparams")
    assert all(np.array_equal(last[name], epoch1[name]) for name in epoch1)
    assert result.best["num_videos"] == 5


def test_the_loss_falls_and_best_is_within_a_standard_error_of_the_highest_gap(tagger_dir):
    result = train(tagger_dir / "ck", overrides=[("TRAIN.epoch", 30), ("MODEL.drop_rate", 0.0)])
    losses = [e["loss"] for e in events(tagger_dir / "ck", "train")]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    gaps = [e["gap"] for e in events(tagger_dir / "ck", "valid")]
    assert len(gaps) == 30
    error = (max(gaps) * (1 - max(gaps)) / 5) ** 0.5  # of 5 validation videos
    best = max(epoch for epoch, gap in enumerate(gaps) if gap >= max(gaps) - error)
    assert result.best["gap"] == gaps[best]
    assert result.best_path.name == f"AttentionLSTM_epoch{best}.pdparams"


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tagger_dir):
    first = state(train(tagger_dir / "a").last_path)
    again = state(train(tagger_dir / "b").last_path)
    other = state(train(tagger_dir / "c", overrides=[("TRAIN.seed", 4)]).last_path)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_every_video_is_trained_on_unless_drop_last_is_asked_for(tagger_dir):
    train(tagger_dir / "all")  # 10 videos in batches of 4: 3 steps
    train(tagger_dir / "dropped", overrides=[("TRAIN.drop_last", True)])
    assert [e["step"] for e in events(tagger_dir / "all", "train")] == [0, 1, 2, 3, 4, 5]
    assert [e["step"] for e in events(tagger_dir / "dropped", "train")] == [0, 1, 2, 3]
    with pytest.raises(FileListError, match=r"10 videos fill no batch of 11; lower TRAIN.batch_size"):
        train(tagger_dir / "none", overrides=[("TRAIN.drop_last", True), ("TRAIN.batch_size", 11)])


def test_the_rate_decays_by_counted_samples_and_old_counts_are_warned_of(tagger_dir, caplog):
    old = [("TRAIN.decay_epochs", [1]), ("TRAIN.num_samples", 5_000_000), ("TRAIN.num_gpus", 8)]
    with caplog.at_level("WARNING", "videotag"):
        train(tagger_dir / "ck", overrides=[*old, ("TRAIN.weight_decay", 8e-4)])
    rates = [e["learning_rate"] for e in events(tagger_dir / "ck", "train")]
    assert rates == pytest.approx([0.01] * 3 + [0.001] * 3)
    assert "TRAIN.num_samples is 5000000, but the list has 10" in caplog.text
    assert "TRAIN.num_gpus is 8" in caplog.text
    assert "set TRAIN.loss_reduction=sum" in caplog.text


def test_a_loss_that_is_no_number_stops_the_run(tagger_dir):
    with pytest.raises(DivergedError, match=r"the loss is (nan|inf) at step \d+; lower TRAIN.learning_rate"):
        train(tagger_dir / "ck", overrides=[("TRAIN.learning_rate", 1e30), ("TRAIN.epoch", 5)])


def test_a_loss_that_explodes_is_warned_of(tagger_dir, caplog):
    train(tagger_dir / "ck", overrides=[("TRAIN.learning_rate", 1e4), ("TRAIN.epoch", 1)])
    assert "lower TRAIN.learning_rate or set TRAIN.clip_norm=1" in caplog.text
    assert "the loss rose from" in caplog.text


def test_all_wrong_feature_files_are_named_before_training(tagger_dir):
    np.save("features/train3.npy", np.zeros((4, 7), np.float32))
    (tagger_dir / "features" / "val1.npy").write_bytes(b"not numpy")
    with pytest.raises(FeatureFileError) as caught:
        train(tagger_dir / "ck")
    lines = str(caught.value).split("\n")
    assert len(lines) == 2
    assert "train3.npy: shape (4, 7), expected (T, 6); was it extracted with another backbone?" in lines[0]
    assert "val1.npy: not a .npy file" in lines[1]
    assert not (tagger_dir / "ck").exists()


def test_training_starts_from_pretrained_weights(tagger_dir):
    first = train(tagger_dir / "a").last_path
    tiny_step = [("TRAIN.learning_rate", 1e-12), ("TRAIN.epoch", 1)]
    second = train(tagger_dir / "b", overrides=tiny_step, pretrain=str(first)).last_path
    for name, array in state(first).items():
        np.testing.assert_allclose(state(second)[name], array, atol=1e-6)


def test_weights_of_another_network_list_every_difference_and_name_their_own_config(tagger_dir):
    weights = train(tagger_dir / "a").last_path
    with pytest.raises(WeightsError) as caught:
        train(tagger_dir / "b", overrides=[("MODEL.fc_sizes", [16, 9])], pretrain=str(weights))
    text = str(caught.value)
    assert "fc2.weight: shape (16, 8), expected (16, 9)" in text
    assert "fc2.bias: shape (8,), expected (9,)" in text
    assert f"the weights' own config is {tagger_dir / 'a' / 'config.yaml'}" in text


def test_weights_that_do_not_fit_leave_the_network_as_it_was(tagger_dir):
    config = load_config("tagger.yaml")
    small, large = (config.entry.cls(config.model.model_copy(update={"num_classes": n})) for n in (4, 5))
    save_weights(small, tagger_dir / "small.pdparams")
    before = {name: t.numpy().copy() for name, t in large.state_dict().items()}
    with pytest.raises(WeightsError, match="does not fit"):
        load_weights(large, tagger_dir / "small.pdparams")
    assert all(np.array_equal(t.numpy(), before[name]) for name, t in large.state_dict().items())


def test_each_array_is_saved_once_and_what_paddle_saves_is_read_too(tagger_dir):
    config = load_config("tagger.yaml")
    model, other = config.entry.cls(config.model), config.entry.cls(config.model)
    save_weights(model, tagger_dir / "ours.pdparams")
    assert len(state(tagger_dir / "ours.pdparams")) == len(model.parameters())
    paddle.save(model.state_dict(), str(tagger_dir / "theirs.pdparams"))
    load_weights(other, tagger_dir / "theirs.pdparams")
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert np.array_equal(one.numpy(), two.numpy())


def refuse(video, error):
    raise error


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_metrics_do_not_depend_on_the_batches(tagger_dir, batch_size):
    config = load_config("tagger.yaml")
    paddle.seed(0)
    model = config.entry.cls(config.model)
    entries = read_filelist("features/test.list")
    dataset = open_dataset(config, entries, config.test)
    batches = list(dataset.batches(ordered_groups(5, batch_size), on_error=refuse))
    mistakes = Mistakes(limit=5)
    result = evaluate(in_layers(model), batches, observers=[mistakes])
    # Observers see every video once, and their loss is the one that is reported.
    assert sorted(m.video_id for m in mistakes.compute()) == [e.path for e in entries]
    assert np.mean([m.loss for m in mistakes.compute()]) == pytest.approx(result["loss"], rel=1e-5)
    scores, losses, labels = [], [], np.concatenate([b.labels for b in batches])
    for batch in dataset.batches(ordered_groups(5, 1), on_error=refuse):
        logits = model({name: paddle.to_tensor(x) for name, x in batch.inputs.items()})["logits"]
        z, y = logits.numpy().astype(np.float64)[0], batch.labels[0]
        losses.append(np.sum(np.log1p(np.exp(z)) - y * z))
        scores.append(1 / (1 + np.exp(-z)))
    expected = {f.__name__: f(np.array(scores), labels) for f in (gap, hit_at_one, perr, mean_ap)}
    assert {name: result[name] for name in expected} == pytest.approx(expected)
    assert result["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert (result["num_videos"], result["num_without_labels"]) == (5, 0)


def test_the_loss_is_summed_over_classes_then_averaged_or_summed_over_videos():
    logits = paddle.to_tensor(np.zeros((4, 3), np.float32))
    labels = paddle.ones([4, 3])
    assert task_loss("multi_label", logits, labels, "mean").item() == pytest.approx(3 * np.log(2))
    assert task_loss("multi_label", logits, labels, "sum").item() == pytest.approx(12 * np.log(2))


def test_the_cross_entropy_of_one_label_has_no_upper_end():
    logits = np.array([[200.0, 0.0, 0.0], [1.0, 2.0, 3.0]], np.float32)
    tensor = paddle.to_tensor(logits, stop_gradient=False)
    loss = task_loss("single_label", tensor, paddle.to_tensor(np.array([1, 2])), "sum")
    expected = 200.0 + np.log(np.exp([1.0, 2.0, 3.0]).sum()) - 3.0
    assert loss.item() == pytest.approx(expected, rel=1e-6)  # Paddle's own ends at 64 on a CPU
    loss.backward()
    np.testing.assert_allclose(tensor.grad.numpy()[0], [1.0, -1.0, 0.0], atol=1e-6)
    mean = task_loss("single_label", paddle.to_tensor(logits), paddle.to_tensor(np.array([1, 2])), "mean")
    assert mean.item() == pytest.approx(expected / 2, rel=1e-6)


def test_top_tags_keep_the_first_of_equal_ones_and_those_that_reach_the_threshold():
    scores = np.array([0.2, 0.9, 0.9, 0.5])
    names = ["a", "b", "b", "d"]
    assert top_tags(scores, names, top_k=3) == [Tag(1, "b", 0.9), Tag(2, "b", 0.9), Tag(3, "d", 0.5)]
    assert top_tags(scores, names, top_k=9, threshold=0.5) == [
        Tag(1, "b", 0.9),
        Tag(2, "b", 0.9),
        Tag(3, "d", 0.5),
    ]
    assert top_tags(scores, names, top_k=3, threshold=1.0) == []


def test_predictions_come_in_the_lists_order_and_skip_what_cannot_be_read(tagger_dir):
    config = load_config("tagger.yaml")
    save_weights(config.entry.cls(config.model), tagger_dir / "tiny.pdparams")
    model = TrainedModel([ModelSource(FoundWeights(tagger_dir / "tiny.pdparams"), config)])
    np.save("features/test2.npy", np.full((3, 6), np.nan, np.float32))
    errors = []
    dataset = open_dataset(config, read_filelist("features/test.list"), config.infer)
    batches = evaluation_batches(
        dataset, config.infer, on_error=lambda video_id, error: errors.append((video_id, str(error)))
    )
    predictions = list(predict(model, batches, ["a", "b", "c", "d"], top_k=2, on_error=print))
    assert [p.video_id for p in predictions] == [f"features/test{i}.npy" for i in (0, 1, 3, 4)]
    assert all(len(p.tags) == 2 and p.tags[0].probability >= p.tags[1].probability for p in predictions)
    assert errors[0][0] == "features/test2.npy"
    assert "3 of 3 rows hold NaN" in errors[0][1]


def test_visualdl_gets_the_scalars(tagger_dir):
    visualdl = pytest.importorskip("visualdl", reason="the extra [visualdl] is not installed")
    train(tagger_dir / "ck", visualdl_dir=str(tagger_dir / "vdl"))
    from visualdl import LogReader

    path = next((tagger_dir / "vdl").iterdir())
    losses = LogReader(file_path=str(path)).get_data("scalar", "train/loss")
    logged = [e["loss"] for e in events(tagger_dir / "ck", "train")]
    assert [s.value for s in losses] == pytest.approx(logged, rel=1e-6)
    assert visualdl is not None
