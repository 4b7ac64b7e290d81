"""The benchmark of small sets: its problems, its numbers, and a tiny run of the baseline."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from videotag.errors import OutputError, VideotagError
from videotag.formats.filelist import read_filelist
from videotag.media.writer import write_video
from videotag.metrics import hit_at_one

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "benchmark"))
import small_set_clips
import small_set_pools
import small_set_scores
import small_sets
from small_set_clips import FilmProblem, GeneratedProblem
from small_set_pools import NoisyProblem, Sample
from small_set_problems import PROBLEMS

TINY = GeneratedProblem(
    "tiny_run",
    "shapes",
    "single_label",
    ("circle", "square"),
    num_frames=4,
    size_px=32,
    side_px=32,
    groups={"circle": (4, 3), "square": (4, 3)},
    twins=False,
)
TINY_NOISY = NoisyProblem("tiny_noisy", "shapes, noise", "single_label", TINY.labels, TINY, 1.0)


@pytest.mark.slow
def test_the_baseline_is_measured_on_every_seed_and_a_contestant_that_fails_is_named(
    work_dir, monkeypatch, capsys
):
    monkeypatch.setattr(small_sets, "PROBLEMS", (TINY, TINY_NOISY))
    assert small_sets.main(["--out_dir=out", "--contestants=baseline", "--seeds=2"]) == 0
    tiny, noisy = json.loads(Path("out/results.json").read_text(encoding="utf-8"))["problems"]
    assert (tiny["num_train"], tiny["num_test"], tiny["num_test_groups"]) == (8, 6, 6)
    for problem in (tiny, noisy):
        found = problem["contestants"]["baseline"]
        assert len(found["mean_ap"]) == len(found["top1"]) == 2
        assert all(0 <= value <= 1 for value in [*found["mean_ap"], *found["top1"]])
    # The two seeds train on different clips, and no clip is in both lists of a seed.
    paths = {
        (seed, split): {e.path for e in read_filelist(f"out/problems/tiny_run/seed{seed}/{split}.list")}
        for seed in (0, 1)
        for split in ("train", "test")
    }
    assert paths[0, "train"] != paths[1, "train"]
    assert not any(paths[seed, "train"] & paths[seed, "test"] for seed in (0, 1))
    path = min(paths[0, "train"])
    clean, with_noise = np.load(path), np.load(path.replace("tiny_run", "tiny_noisy"))
    assert clean.shape == with_noise.shape == (4, 1280)
    assert 0.5 < (with_noise - clean).std() / clean.std() < 2
    assert "| tiny_run | single | 2 | 8 | 6 |" in capsys.readouterr().out

    # Again: features are reused, outcomes are resumed, and fit rejects its flag.
    made = Path("out/problems/tiny_run/problem.json").stat().st_mtime_ns
    flags = ["--out_dir=out", "--problems=tiny_run", "--seeds=1", "--resume"]
    assert small_sets.main([*flags, "--contestants=baseline,fit", "--time=never"]) == 1
    assert Path("out/problems/tiny_run/problem.json").stat().st_mtime_ns == made
    out, err = capsys.readouterr()
    assert "| - | - | - |" in out
    assert "fit - baseline: no results" in out
    assert "tiny_run: fit: videotag fit failed" in err


def test_a_folder_of_another_definition_is_an_error(work_dir):
    Path("p").mkdir()
    Path("p/problem.json").write_text('{"definition": {"name": "other"}, "samples": []}', encoding="utf-8")
    with pytest.raises(OutputError, match=r"p/problem.json: made by other definitions; delete its folder"):
        small_set_pools.make_problem(TINY, Path("p"))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--problems=tiny,none", "--problems=tiny,none: expected some of all_tags,"),
        ("--contestants=", "--contestants=: expected some of baseline, recipe, fit, best, last"),
        ("--words=none", "--words=none: expected two or more videos, named by their words, found 0"),
    ],
)
def test_names_that_do_not_exist_end_the_benchmark(flag, message, work_dir, capsys):
    assert small_sets.main([flag, "--out_dir=out"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


# ---------------------------------------------------------------- problems


@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p.train_groups()], ids=lambda p: p.name)
def test_a_split_divides_no_group_and_trains_on_the_number_of_groups_of_each_stratum(problem):
    groups = (problem.source if isinstance(problem, NoisyProblem) else problem).groups
    samples = [
        Sample(f"{stratum}{number}/{version}", (0,), f"{stratum}{number}", stratum)
        for stratum, counts in groups.items()
        for number in range(sum(counts))
        for version in "ab"
    ]
    parts = small_set_pools.split_samples(problem, samples, 3)
    trained, tested = ({sample.group for sample in parts[split]} for split in ("train", "test"))
    assert not trained & tested
    assert len(parts["train"]) + len(parts["test"]) == len(samples)
    for stratum, (train, test) in groups.items():
        assert len({s.group for s in parts["train"] if s.stratum == stratum}) == train
        assert len({s.group for s in parts["test"] if s.stratum == stratum}) == test
    assert small_set_pools.split_samples(problem, samples, 3) == parts
    assert small_set_pools.split_samples(problem, samples, 4) != parts


def test_generated_problems_have_20_to_2000_training_clips_and_100_or_more_to_test_on():
    found = [problem for problem in PROBLEMS if isinstance(problem, GeneratedProblem)]
    assert {problem.task for problem in found} == {"multi_label", "single_label"}
    assert len({problem.seed for problem in found}) == len(found)
    for problem in found:
        per_group = 1 + problem.twins
        assert 20 <= per_group * sum(train for train, _ in problem.groups.values()) <= 2000
        assert per_group * sum(test for _, test in problem.groups.values()) >= 100


def test_twins_are_one_group_of_the_same_frames_in_reverse_with_noise_and_another_order_tag():
    order = next(problem for problem in PROBLEMS if problem.name == "order")
    clips = list(replace(order, groups={"changes size": (1, 1)}, noise=30).clips())
    assert [clip.sample.group for clip in clips] == [clips[0].sample.group] * 2 + [clips[2].sample.group] * 2
    np.testing.assert_array_equal(clips[0].frames, clips[1].frames[::-1])
    labels = [order.labels[index] for clip in clips[:2] for index in clip.sample.label_ids]
    assert labels == ["grows", "shrinks"]


def test_a_flash_is_visible_in_its_number_of_frames():
    flash = next(problem for problem in PROBLEMS if problem.name == "flash")
    for clip in replace(flash, groups={"red flash": (1, 1)}, seed=1).clips():
        assert clip.sample.label_ids == (0,)
    spec = next(small_set_clips.endless_specs(1))
    without = replace(flash, flash_frames=0).frames(spec)
    differs = (flash.frames(spec) != without).any(axis=(1, 2, 3))
    assert differs.sum() == flash.flash_frames == 4


def test_no_frame_and_no_group_of_film_is_in_both_splits(work_dir, monkeypatch):
    write_video("bikes.mp4", np.zeros((132, 64, 64, 3), np.uint8), fps=25)
    monkeypatch.setattr(small_set_clips.demo, "films", lambda: {"bikes.mp4": Path("bikes.mp4")})
    monkeypatch.setattr(small_set_clips.demo, "SHORT_SIDE_PX", 64)
    problem = FilmProblem("film", "", "multi_label", tuple(small_set_clips.demo.LABELS), copies=1)
    frames: dict[str, set[int]] = {"train": set(), "test": set()}
    groups: dict[str, set[str]] = {"train": set(), "test": set()}
    for clip in problem.clips():
        assert clip.sample.split
        first = int(clip.sample.path.rpartition("/")[2].split("_")[0])
        frames[clip.sample.split] |= set(range(first, first + len(clip.frames)))
        groups[clip.sample.split].add(clip.sample.group)
    assert max(frames["train"]) < min(frames["test"])
    assert groups["train"] == {"bikes_train_00", "bikes_train_01"}
    assert groups["test"] == {"bikes_test_01", "bikes_test_02"}


def test_windows_of_words_are_cut_by_time(work_dir, monkeypatch):
    monkeypatch.setattr(small_set_clips.demo, "SHORT_SIDE_PX", 64)
    for word in ("no", "yes"):
        write_video(f"{word}.mp4", np.zeros((40, 64, 64, 3), np.uint8), fps=25)
    problem = small_set_clips.word_problem(Path())
    assert problem.labels == ("no", "yes")
    samples = [clip.sample for clip in problem.clips() if clip.sample.label_ids == (1,)]
    # Blocks of 12 frames, each with windows of 8; 24 of 40 frames are for training.
    assert [(s.path, s.split) for s in samples] == [
        *((f"yes_00/{first:03d}", "train") for first in (0, 2, 4)),
        *((f"yes_01/{first:03d}", "train") for first in (12, 14, 16)),
        *((f"yes_02/{first:03d}", "test") for first in (24, 26, 28)),
    ]


# ---------------------------------------------------------------- numbers


def test_a_difference_is_resampled_by_groups_that_seeds_share():
    labels = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
    right, wrong = labels.astype(float), 1.0 - labels
    groups = [["a", "a", "b", "b"]] * 2
    same = small_set_scores.difference([(right, right)] * 2, [labels] * 2, groups, score=hit_at_one)
    assert same == small_set_scores.Difference(0.0, 0.0, 0.0)
    better = small_set_scores.difference([(right, wrong)] * 2, [labels] * 2, groups, score=hit_at_one)
    assert better == small_set_scores.Difference(1.0, 1.0, 1.0)
    # One contestant is right on group a, the other on group b: a resample has one of them, or both.
    first = np.array([[1.0, 0.0]] * 4)
    mixed = small_set_scores.difference([(first, 1 - first)] * 2, [labels] * 2, groups, score=hit_at_one)
    assert mixed == small_set_scores.Difference(0.0, -1.0, 1.0)
    # With a group for each clip, the interval is that of four clips.
    single = [["a", "b", "c", "d"]] * 2
    narrow = small_set_scores.difference([(first, 1 - first)] * 2, [labels] * 2, single, score=hit_at_one)
    assert -1.0 <= narrow.low < 0 < narrow.high <= 1.0
    seldom = small_set_scores.difference(
        [(right, wrong), (wrong, right)], [labels] * 2, [groups[0], ["c", "c", "d", "d"]], score=hit_at_one
    )
    assert seldom.mean == 0.0


def results_of(low, mean, high, **changes):
    numbers = {"mean_ap": [0.5, 0.7], "top1": [0.25, 0.25], "seconds": [1.0, 2.4], "chosen": [[], []]}
    chosen = {"mean_ap": [0.9, 0.9], "chosen": [["mlp"], ["mlp", "linear"]], "seconds": [10.0, 12.0]}
    return {
        "name": "p",
        "task": "multi_label",
        "num_classes": 3,
        "num_train": 20,
        "num_test": 120,
        "contestants": {"baseline": numbers, "fit": {**numbers, **chosen}},
        "differences": {"fit - baseline": {"mean": mean, "low": low, "high": high}},
        **changes,
    }


def test_the_table_holds_means_over_seeds_and_what_fit_chose():
    rows = [results_of(0.1, 0.3, 0.5), results_of(0, 0, 0, contestants={}, differences={})]
    lines = small_set_scores.table(rows, ["baseline", "fit"]).split("\n")
    assert lines == [
        "| problem | task | classes | train | test | baseline: mAP / top-1 | fit: mAP / top-1 "
        "| fit - baseline | fit chose | seconds: baseline, fit |",
        f"|{' --- |' * 10}",
        "| p | multi | 3 | 20 | 120 | 0.600 / 0.250 | 0.900 / 0.250 | +0.300 [+0.100, +0.500] "
        "| mlp; mlp + linear | 2, 11 |",
        "| p | multi | 3 | 20 | 120 | - | - | - | - | -, - |",
    ]
    assert "fit - baseline" not in small_set_scores.table(rows, ["fit"])


def test_a_contestant_is_not_worse_where_its_interval_reaches_zero():
    rows = [
        results_of(0.1, 0.3, 0.5),
        results_of(-0.2, -0.1, 0.0),
        results_of(-0.2, -0.1, -0.05),
        results_of(0, 0, 0, differences={}),  # failed
    ]
    numbers = small_set_scores.total(rows, "fit", "baseline")
    assert numbers == {
        "num_problems": 3,
        "num_not_worse": 2,
        "num_better": 1,
        "mean_difference": pytest.approx(0.1 / 3),
    }
    assert small_set_scores.total_text("fit", "baseline", numbers) == (
        "fit >= baseline within its interval on 2 of 3 problems, better on 1; mean difference +0.033"
    )
    nothing = small_set_scores.total([], "fit", "baseline")
    assert small_set_scores.total_text("fit", "baseline", nothing) == "fit - baseline: no results"


def test_the_best_checkpoint_is_compared_with_the_last_one():
    pairs = small_set_scores.comparisons(["baseline", "best", "last"])
    assert pairs == [("best", "baseline"), ("last", "baseline"), ("best", "last")]
    assert small_set_scores.comparisons(["recipe", "best"]) == []


def test_the_score_is_map_of_tags_and_top1_of_classes():
    assert small_set_scores.score_of("multi_label") is small_set_scores.mean_ap
    assert small_set_scores.score_of("single_label") is small_set_scores.hit_at_one


def test_pooling_gives_mean_and_standard_deviation_over_frames(work_dir):
    np.save("a.npy", np.array([[1, 5], [3, 5]], np.float32))
    (row,) = small_sets.pooled([small_sets.ListEntry("a.npy")])
    np.testing.assert_allclose(row, [2, 5, 1, 0])


def test_a_folder_of_one_word_is_an_error(work_dir):
    write_video("no.mp4", np.zeros((8, 16, 16, 3), np.uint8), fps=25)
    with pytest.raises(VideotagError, match="expected two or more videos, named by their words, found 1"):
        small_set_clips.word_problem(Path())
