"""The benchmark of taggers: what it measures, and that it finds itself out where it is wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from videotag.system.quiet_paddle import paddle

import numpy as np
import pytest

from videotag.datasets.batches import Batch
from videotag.datasets.synthetic_features import FeatureSet, SyntheticOptions
from videotag.errors import OutputError
from videotag.formats.tfrecord import record_sizes
from videotag.models import load_models
from videotag.registry import ArraySpec, ModelEntry, get_model
from videotag.sections import TaggerModel
from videotag.training.run import DivergedError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "benchmark"))
import zoo
import zoo_models
from zoo_models import (
    BenchOptions,
    Data,
    Row,
    TwinScores,
    bench_config,
    count_parameters,
    problems_of,
    run_zoo,
    sees_order,
    settings_of,
)

load_models()
TINY = BenchOptions(
    seed=3,
    num_train=24,
    num_test=8,
    epochs=1,
    features=SyntheticOptions(
        num_steps=(4, 6), dims={"rgb": 8, "audio": 4}, num_content=8, num_cooccurrence=2
    ),
)
ROW = Row(
    model="A",
    sees_order=True,
    gap=0.5,
    hit_at_one=0.5,
    perr=0.5,
    mean_ap=0.5,
    mean_ap_by_kind={"content": 0.5, "cooccurrence": 0.5, "order": 0.5},
    told_apart=0.9,
    num_parameters=10,
    trained_per_sec=1.0,
    tagged_per_sec=1.0,
    train_cpu_sec=1.0,
)
BLIND = replace(ROW, model="B", sees_order=False, told_apart=0.5)


class Pooled(paddle.nn.Layer):
    """Sum of the real steps; with `weighted`, each times its number."""

    inputs = (ArraySpec("rgb", (None, None, 4)), ArraySpec("rgb.mask", (None, None), "bool"))
    outputs = ("logits",)

    def __init__(self, weighted):
        super().__init__()
        self.weighted = weighted

    def forward(self, inputs):
        x, mask = inputs["rgb"], inputs["rgb.mask"].astype("float32")
        if self.weighted:
            mask = mask * paddle.arange(mask.shape[1], dtype="float32")
        return {"logits": (x * mask.unsqueeze(-1)).sum(axis=1)}


def test_only_a_model_that_weighs_steps_by_their_number_is_found_to_see_order():
    rng = np.random.default_rng(0)
    lengths = np.array([5, 2, 7])
    mask = np.arange(7) < lengths[:, None]
    x = rng.standard_normal((3, 7, 4)).astype(np.float32) * mask[..., None]
    batch = Batch(["a", "b", "c"], {"rgb": x, "rgb.mask": mask}, np.zeros((3, 4), np.float32))
    kept = x.copy()
    assert sees_order(Pooled(weighted=True), batch, seed=0)
    assert not sees_order(Pooled(weighted=False), batch, seed=0)
    assert np.array_equal(batch.inputs["rgb"], kept), "the batch stays as it is"


def test_twins_are_told_apart_by_the_higher_score_and_equal_ones_count_half():
    # Classes: 0 content, 1 and 2 order. Three twins; the last ones have no tag of order.
    labels = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 0, 0]], np.float32)
    scores = np.array(
        [[0, 0.9, 0.5], [0, 0.2, 0.50001], [0, 0.8, 0.3], [0, 0.1, 0.2], [0, 0.9, 0.1], [0, 0.1, 0.9]]
    )
    # Class 1: right (0.9 > 0.2), wrong (0.1 < 0.8). Class 2: as good as equal, right (0.3 > 0.2).
    for split in (6, 4, 1):  # also a batch that ends between twins
        twins = TwinScores(np.array([1, 2]))
        for start in range(0, 6, split):
            twins.update(scores[start : start + split], labels[start : start + split], [])
        assert twins.compute() == pytest.approx((1 + 0 + 0.5 + 1) / 4)


def test_without_twins_that_differ_nothing_is_told_apart():
    twins = TwinScores(np.array([0]))
    twins.update(np.ones((3, 1)), np.ones((3, 1)), [])
    assert np.isnan(twins.compute())


def test_nothing_is_wrong_where_the_blind_fail_and_one_that_sees_does_not():
    assert problems_of([ROW, replace(ROW, model="C", told_apart=0.5), BLIND]) == []
    assert problems_of([BLIND]) == [], "nothing that sees was run"


@pytest.mark.parametrize("told_apart", [0.56, 0.44, 1.0, float("nan")])
def test_a_blind_model_away_from_chance_means_that_the_features_give_order_away(told_apart):
    (problem,) = problems_of([ROW, replace(BLIND, told_apart=told_apart)])
    assert problem.startswith(
        f"B: blind to order, but tells {told_apart:.3f} of the twins apart, expected 0.5"
    )
    assert problem.endswith("the features give order away, correct synthetic_features.py")


def test_order_that_no_model_learns_is_a_problem():
    rows = [replace(ROW, told_apart=0.6), replace(ROW, model="C", told_apart=0.7), BLIND]
    assert problems_of(rows) == [
        "no model learned order tags: the best, C, tells 0.700 of the twins apart, expected 0.75 or more; "
        "give more --videos or a higher --epoch"
    ]


@pytest.mark.parametrize("entry", zoo.taggers(), ids=lambda entry: entry.name)
def test_every_tagger_is_built_small(entry, tmp_path):
    data = Data(FeatureSet(SyntheticOptions(), seed=0), [], [], [])
    options = BenchOptions(seed=0, num_train=2, num_test=2, epochs=10)
    config = bench_config(entry, data, options, save_dir=tmp_path)
    assert config.model.num_classes == 46
    assert config.model.dims == {"rgb": 64, "audio": 16}
    assert config.train.decay_epochs == [6, 8]
    assert count_parameters(config.entry.cls(config.model)) < 500_000


def test_a_new_model_gets_the_common_sizes_that_it_has():
    class NewConfig(TaggerModel):
        hidden_size: int = 4096
        depth: int = 3

    entry = ModelEntry("New", cls=None, config=NewConfig, task="multi_label")
    settings = settings_of(entry, TINY, num_classes=5)
    assert settings["MODEL"] == {
        "name": "New",
        "task": "multi_label",
        "num_classes": 5,
        "feature_names": ["rgb", "audio"],
        "feature_dims": [8, 4],
        "hidden_size": 64,
    }
    assert settings["TRAIN"]["epoch"] == 1
    assert settings["TRAIN"]["learning_rate"] == zoo_models.COMMON_TRAINING["learning_rate"]


def test_all_sizes_of_a_run_are_measured(work_dir):
    rows, failed = run_zoo([get_model("MeanPool")], TINY, save_dir=Path("zoo"))
    assert failed == {}
    (row,) = rows
    assert not row.sees_order
    assert row.num_parameters == (8 + 4 + 1) * (8 + 2 + 6)
    assert row.trained_per_sec > 0 < row.tagged_per_sec
    assert set(row.mean_ap_by_kind) == {"content", "cooccurrence", "order"}
    names = Path("zoo/data/labels.txt").read_text(encoding="utf-8").splitlines()
    assert len(names) == 16
    assert Path("zoo/data/train.list").read_text(encoding="utf-8") == "zoo/data/train.tfrecord\n"
    assert len(record_sizes("zoo/data/train.tfrecord")) == 24
    assert Path("zoo/MeanPool/MeanPool.pdparams").is_file()


def test_a_model_that_diverges_is_listed_and_the_others_are_measured(work_dir, monkeypatch):
    train = zoo_models.train_model

    def diverging(config, *args, **options):
        if config.entry.name == "MaxPool":
            raise DivergedError("the loss is nan at step 3")
        return train(config, *args, **options)

    monkeypatch.setattr(zoo_models, "train_model", diverging)
    rows, failed = run_zoo([get_model("MaxPool"), get_model("MeanPool")], TINY, save_dir=Path("zoo"))
    assert [row.model for row in rows] == ["MeanPool"]
    assert failed == {"MaxPool": "the loss is nan at step 3"}


def test_a_place_that_cannot_be_written_ends_the_run(work_dir, monkeypatch):
    def full(*_, **__):
        raise OutputError("zoo: cannot write (No space left on device)")

    monkeypatch.setattr(zoo_models, "train_model", full)
    with pytest.raises(OutputError, match="No space left"):
        run_zoo([get_model("MeanPool")], TINY, save_dir=Path("zoo"))


def easy(**options):
    """Few videos on which order is learned in seconds."""
    features = SyntheticOptions(
        num_steps=(4, 6),
        dims={"rgb": 8, "audio": 4},
        num_content=4,
        num_cooccurrence=0,
        num_order_pairs=1,
        order_share=1.0,
        noise=0.05,
    )
    return BenchOptions(seed=1, num_train=128, num_test=40, features=features, **options)


def test_order_is_learned_by_the_model_that_sees_it_and_by_no_mean(work_dir):
    entries = [get_model("BiGRU"), get_model("MeanPool")]
    rows, _ = run_zoo(entries, easy(epochs=20), save_dir=Path("zoo"))
    assert [row.sees_order for row in rows] == [True, False]
    assert rows[0].told_apart > 0.9
    assert rows[1].told_apart == 0.5
    assert problems_of(rows) == []


def test_features_that_give_order_away_are_found_out(work_dir, monkeypatch):
    records = FeatureSet.records

    def leaking(self, *args, **options):
        for record in records(self, *args, **options):
            record.features["rgb"][:, 0] = 255 * (record.labels.max() % 2)
            yield record

    monkeypatch.setattr(FeatureSet, "records", leaking)
    rows, _ = run_zoo([get_model("MeanPool")], easy(epochs=20), save_dir=Path("zoo"))
    assert not rows[0].sees_order
    assert rows[0].told_apart == 1.0
    assert "MeanPool: blind to order, but tells 1.000 of the twins apart" in problems_of(rows)[0]


# ---------------------------------------------------------------- the command


def test_the_command_prints_and_writes_the_table(work_dir, capsys):
    words = ["--models=moe, MeanPool,MoE", "--videos=60", "--epoch=3", "--save_dir=out"]
    assert zoo.main(words) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("| model | GAP | Hit@1 | PERR | mAP | content | co-occurrence | order |")
    assert sorted(line.split(" | ")[0] for line in lines[2:]) == ["| MeanPool", "| MoE"]
    assert all(" | 0.500 | " in line for line in lines[2:]), "twins are not told apart by a mean"
    assert out == Path("out/zoo.md").read_text(encoding="utf-8")
    assert "no model here sees order, so it was not checked that order tags can be learned" in err
    results = json.loads(Path("out/zoo.json").read_text(encoding="utf-8"))
    assert results["problems"] == []
    assert results["options"] | {"features": None} == {
        "seed": 0,
        "num_train": 60,
        "num_test": 20,
        "epochs": 3,
        "features": None,
    }
    assert results["options"]["features"]["dims"] == {"rgb": 64, "audio": 16}
    assert [model["model"] for model in results["models"]] == ["MoE", "MeanPool"]


def test_the_command_fails_where_order_is_not_learned(work_dir, capsys):
    words = ["--models=BiGRU", "--videos=20", "--epoch=1", "--save_dir=out", "--json"]
    assert zoo.main(words) == 1
    out, err = capsys.readouterr()
    results = json.loads(out)
    assert results["models"][0]["sees_order"] is True
    assert len(results["problems"]) == 1
    assert "no model learned order tags: the best, BiGRU" in results["problems"][0]
    assert results["problems"][0] in err
    assert results == json.loads(Path("out/zoo.json").read_text(encoding="utf-8"))


def test_a_failed_model_stands_among_the_problems(work_dir, monkeypatch, capsys):
    def failing(*_, **__):
        raise DivergedError("the loss is nan at step 3")

    monkeypatch.setattr(zoo_models, "train_model", failing)
    assert zoo.main(["--models=MeanPool", "--videos=20", "--epoch=1", "--save_dir=out"]) == 1
    assert "MeanPool: the loss is nan at step 3" in capsys.readouterr().err


def test_the_table_and_the_json_hold_a_missing_number():
    row = replace(BLIND, told_apart=float("nan"), mean_ap_by_kind={"content": 0.25, "order": float("nan")})
    assert "| 0.250 | nan | nan | 10 |" in zoo.markdown([row])
    shown = zoo.as_json([row], TINY, [])["models"][0]
    assert shown["mean_ap_by_kind"] == {"content": 0.25, "order": None}
    assert shown["told_apart"] is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (3000, 1000, 15)),
        (["--quick"], (800, 266, 15)),
        (["--quick", "--videos=30", "--epoch=2"], (30, 20, 2)),
    ],
)
def test_quick_changes_only_what_no_flag_says(work_dir, monkeypatch, words, expected):
    asked = []

    def recorded(_, options, **__):
        asked.append((options.num_train, options.num_test, options.epochs))
        return [ROW], {}

    monkeypatch.setattr(zoo, "run_zoo", recorded)
    assert zoo.main(words) == 0
    assert asked == [expected]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models=MeanPol"], "MeanPol: unknown model; did you mean 'MeanPool'?"),
        (["--models=TSN"], "--models TSN: TSN is not a tagger; there are: "),
        (["--models=,"], "--models ,: no names; there are: "),
        (["--videos=19"], "--videos 19: expected 20 or more"),
        (["--seed=2147483648"], "--seed 2147483648: expected a number below 2147483648"),
    ],
)
def test_mistakes_are_found_before_work(work_dir, capsys, words, message):
    assert zoo.main(words) == 2
    assert message in capsys.readouterr().err
    assert list(work_dir.iterdir()) == []


def test_only_the_registry_says_which_taggers_run():
    assert zoo.select_taggers(None) == zoo.taggers()
    assert all(isinstance(entry, ModelEntry) for entry in zoo.select_taggers(None))


def test_the_table_in_the_docs_has_every_tagger():
    text = (Path(__file__).resolve().parents[2] / "docs" / "zoo.md").read_text(encoding="utf-8")
    table = text.split("| model |")[1].split("\n\n")[0]
    missing = [entry.name for entry in zoo.taggers() if f"\n| {entry.name} |" not in table]
    assert not missing, "run tools/benchmark/zoo.py again and put its table into docs/zoo.md"


@pytest.mark.parametrize("name", ["zoo.json", "zoo.md", "data/train.tfrecord", "MeanPool.yaml"])
def test_a_folder_whose_files_are_of_no_benchmark_is_refused(work_dir, capsys, name):
    path = Path("zoo", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine", encoding="utf-8")
    assert zoo.main(["--models=MeanPool", "--save_dir=zoo", "--videos=20", "--epoch=1"]) == 2
    assert ": exists and " in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "mine"
