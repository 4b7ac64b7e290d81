"""`videotag fit` from features and from videos to a tagger, and what it decides on the way."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from videotag.cli.main import main
from videotag.config import load_config
from videotag.fit import candidates, comparison, cross_validation, run
from videotag.fit.learning_curve import CurvePoint, forecast, learning_curve
from videotag.fit.record import advice
from videotag.fit.result import ClassRow
from videotag.inference.tagger import Tagger
from videotag.media.synthetic import ClipSpec, render
from videotag.media.writer import write_video

FIT = ["fit", "sets", "--save_dir=out"]
pytestmark = pytest.mark.usefixtures("few_steps")


def record(folder="out"):
    with open(f"{folder}/fit.yaml", encoding="utf-8") as file:  # noqa: PTH123
        return yaml.safe_load(file)


def test_a_fit_leaves_a_tagger_with_its_record_report_and_metrics(sets, capsys):
    assert main([*FIT, r"--group_by=(film\d+)"]) == 0
    printed = capsys.readouterr().out
    assert "logistic regression" in printed
    assert "videotag predict --filelist=new.list --weights=out" in printed  # its features are the user's
    found = record()
    assert found["task"] == "single_label"
    assert found["num_train"] + found["num_test"] == 48
    assert [c["name"] for c in found["candidates"]][:5] == [c.name for c in candidates.CANDIDATES]
    assert "extractor" not in found
    metrics = json.loads((sets / "out/metrics.json").read_text(encoding="utf-8"))
    assert metrics["num_videos"] == found["num_test"]
    assert metrics["top1"] > 0.6
    page = (sets / "out/report.html").read_text(encoding="utf-8")
    assert 'id="candidates"' in page
    assert 'id="learning-curve"' in page
    groups = [
        {line.split("film")[1][:2] for line in (sets / f"out/{split}.list").read_text().splitlines()}
        for split in ("train", "test")
    ]
    assert not groups[0] & groups[1]


def test_the_folder_is_accepted_as_weights_and_its_commands_run(sets, capsys):
    assert main(FIT) == 0
    assert main(["eval", "--weights=out", "--save_dir=again"]) == 0
    capsys.readouterr()
    assert main(["predict", "--weights=out", "--filelist=out/test.list", "--save_dir=tags"]) == 0
    first, second = (json.loads((sets / f"{d}/metrics.json").read_text()) for d in ("out", "again"))
    assert first["top1"] == second["top1"]
    for command in record()["commands"]:
        assert main(command.split()[1:]) == 0, command
    model = sets / record()["commands"][0].rpartition("--save_dir=")[2]
    assert load_config(model / "config.yaml").model.num_classes == 2


def test_a_second_run_keeps_everything_and_changed_labels_start_anew(sets, capsys):
    assert main(FIT) == 0
    before = record()
    times = {path: path.stat().st_mtime_ns for path in (sets / "out/cross_validation").iterdir()}
    assert main(FIT) == 0
    assert record() == before
    assert {path: path.stat().st_mtime_ns for path in times} == times
    (sets / "sets/low/film00a.npy").rename(sets / "sets/high/film00a.npy")
    assert main(FIT) == 0
    assert all(path.stat().st_mtime_ns > times[path] for path in times)
    assert (sets / "out/models/logistic_regression/earlier-1").is_dir()


def test_features_that_change_below_the_same_paths_are_trained_on_anew(sets):
    """A constant added to all features changes no score, as linear candidates standardize them."""
    assert main([*FIT, "--time=0.001s"]) == 0
    before = json.loads((sets / "out/metrics.json").read_text(encoding="utf-8"))
    for path in (sets / "sets").rglob("*.npy"):
        np.save(path, np.load(path) + 50)
    assert main([*FIT, "--time=0.001s"]) == 0
    after = json.loads((sets / "out/metrics.json").read_text(encoding="utf-8"))
    assert after["top1"] == before["top1"]
    assert after["loss"] == pytest.approx(before["loss"], abs=1e-2)


def test_a_fit_replaces_no_file_of_others_and_keeps_out_of_its_source(sets, capsys):
    (sets / "other").mkdir()
    (sets / "other/train.list").write_text("mine\n", encoding="utf-8")
    assert main(["fit", "sets", "--save_dir=other"]) == 2
    assert "holds train.list, and no earlier fit" in capsys.readouterr().err
    assert (sets / "other/train.list").read_text(encoding="utf-8") == "mine\n"
    assert main(["fit", "sets", "--save_dir=sets/mine"]) == 2
    assert "inside sets, where its files would be read as a class" in capsys.readouterr().err
    assert main(["fit", "sets", "--save_dir=."]) == 2
    assert "choose a folder without videos" in capsys.readouterr().err


@pytest.fixture
def split_sets(sets):
    """Features in split/train and split/test, far enough apart that none are near-duplicates."""
    rng = np.random.default_rng(1)
    for split, count in (("train", 40), ("test", 8)):
        for index in range(count):
            path = sets / f"split/{split}/{('low', 'high')[index % 2]}/film{index:02d}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, (rng.normal(size=(3, 40)) + index % 2).astype(np.float32))
    return sets


def test_another_test_video_repeats_no_training(split_sets):
    command = ["fit", "split", "--save_dir=out", "--time=0.001s"]
    assert main(command) == 0
    before = record()
    times = {path: path.stat().st_mtime_ns for path in (split_sets / "out/cross_validation").iterdir()}
    x = np.random.default_rng(2).normal(size=(3, 40)).astype(np.float32)
    np.save(split_sets / "split/test/low/new.npy", x)
    assert main(command) == 0
    assert record()["num_test"] == before["num_test"] + 1
    assert record()["candidates"] == before["candidates"]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert not list((split_sets / "out/models").rglob("earlier-*"))


def test_another_training_video_repeats_the_training(split_sets):
    command = ["fit", "split", "--save_dir=out", "--time=0.001s"]
    assert main(command) == 0
    path = split_sets / "out/cross_validation/logistic_regression.npz"
    before = path.stat().st_mtime_ns
    x = np.random.default_rng(2).normal(size=(3, 40)).astype(np.float32)
    np.save(split_sets / "split/train/low/new.npy", x)
    assert main(command) == 0
    assert path.stat().st_mtime_ns > before
    assert (split_sets / "out/models/logistic_regression/earlier-1").is_dir()


def test_another_method_repeats_everything(sets, monkeypatch):
    assert main([*FIT, "--time=0.001s"]) == 0
    times = {path: path.stat().st_mtime_ns for path in (sets / "out/cross_validation").iterdir()}
    monkeypatch.setattr(run, "METHOD", run.METHOD + 1)
    assert main([*FIT, "--time=0.001s"]) == 0
    assert all(path.stat().st_mtime_ns > times[path] for path in times)
    assert (sets / "out/models/logistic_regression/earlier-1").is_dir()


def test_the_learning_curve_is_kept_and_follows_the_seed(sets, monkeypatch):
    seeds = []

    def observed(*args, **kwargs):
        seeds.append(kwargs["seed"])
        return learning_curve(*args, **kwargs)

    monkeypatch.setattr(comparison, "learning_curve", observed)
    assert main([*FIT, "--seed=3"]) == 0
    page = (sets / "out/report.html").read_bytes()
    assert main([*FIT, "--seed=3"]) == 0
    assert seeds == [3]
    assert (sets / "out/report.html").read_bytes() == page
    (sets / "out/cross_validation/learning_curve.npz").write_bytes(b"damaged")
    assert main([*FIT, "--seed=3"]) == 0
    assert seeds == [3, 3]


def test_a_learning_curve_that_time_cut_short_is_measured_by_the_next_run(sets):
    assert main([*FIT, "--time=0.001s"]) == 0
    assert 'id="learning-curve"' not in (sets / "out/report.html").read_text(encoding="utf-8")
    assert main(FIT) == 0
    assert 'id="learning-curve"' in (sets / "out/report.html").read_text(encoding="utf-8")


def test_twice_the_videos_are_twice_those_of_the_last_point(sets, monkeypatch):
    """1 - mAP = 2 / sqrt(n): .4, .2 and .1 at 25, 100 and 400, so .0707 at 800."""
    curve = [CurvePoint(n, 1 - 2 / n**0.5, 0.0) for n in (25, 100, 400)]
    monkeypatch.setattr(comparison, "learning_curve", lambda *_, **__: curve)
    assert main([*FIT, "--time=0.001s"]) == 0
    page = (sets / "out/report.html").read_text(encoding="utf-8")
    assert "a held-out mAP of about 0.93 (0.93 to 0.93); now 0.90" in page
    assert ">800<" in page


def test_the_share_for_the_final_training_does_not_shrink_with_each_question(monkeypatch):
    """Of 100 s, the comparison may use 70, and 30 are left at its end."""
    now = [0.0]
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: now[0]))
    deadline = run.Deadline(100)
    end = deadline.part(0.7)
    assert end.seconds_left() == pytest.approx(70)
    now[0] = 60.0
    assert end.seconds_left() == pytest.approx(10)
    now[0] = 75.0
    assert end.seconds_left() == pytest.approx(-5)
    assert deadline.seconds_left() == pytest.approx(25)
    assert run.Deadline(None).part(0.7).seconds_left() == float("inf")


def test_a_list_of_its_own_is_a_source(sets):
    (sets / "labels.txt").write_text("low\nhigh\n", encoding="utf-8")
    lines = [f"{path} {int('high' in str(path))}" for path in sorted((sets / "sets").rglob("*.npy"))]
    (sets / "my.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert main(["fit", "my.list", "--save_dir=out", "--time=0.001s"]) == 0
    assert record()["num_classes"] == 2


def test_an_interrupted_rerun_leaves_no_complete_folder(sets, monkeypatch):
    assert main([*FIT, "--time=0.001s"]) == 0
    monkeypatch.setattr(
        "videotag.fit.comparison.select_candidate", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert main([*FIT, "--time=0.001s"]) == 130
    assert not (sets / "out/fit.yaml").exists()
    assert not (sets / "out/report.html").exists()


def test_another_spelling_of_the_folder_keeps_the_cross_validation(sets):
    assert main(FIT) == 0
    before = record()["candidates"]
    times = {path: path.stat().st_mtime_ns for path in (sets / "out/cross_validation").iterdir()}
    assert main(["fit", "sets", f"--save_dir={sets}/out"]) == 0
    assert record()["candidates"] == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_rerun_that_fails_on_a_damaged_file_leaves_the_tagger(sets, capsys):
    assert main([*FIT, "--time=0.001s"]) == 0
    before = (sets / "out/fit.yaml").read_bytes()
    np.save(sets / "sets/low/film00a.npy", np.zeros((2, 9), np.float32))
    assert main([*FIT, "--time=0.001s"]) == 2
    assert "film00a.npy" in capsys.readouterr().err
    assert (sets / "out/fit.yaml").read_bytes() == before


def test_a_test_share_for_a_source_with_a_test_set_is_an_error(sets, capsys):
    for split in ("train", "test"):
        for name in ("low", "high"):
            (sets / f"split/{split}/{name}").mkdir(parents=True)
            np.save(sets / f"split/{split}/{name}/a.npy", np.zeros((2, 5), np.float32))
    assert main(["fit", "split", "--save_dir=out", "--test_share=0.5"]) == 2
    assert "--test_share 0.5: split fixes the test set" in capsys.readouterr().err


def test_a_test_share_with_a_split_column_is_an_error(sets, capsys):
    rows = ["path,labels,part"]
    for index, path in enumerate(sorted((sets / "sets").rglob("*.npy"))):
        rows.append(f"{path.relative_to(sets)},{path.parent.name},{('train', 'test')[index % 4 == 0]}")
    (sets / "videos.csv").write_text("\n".join(rows), encoding="utf-8")
    command = ["fit", "videos.csv", "--save_dir=out", "--split_column=part", "--test_share=0.5"]
    assert main(command) == 2
    assert (
        "--test_share 0.5: videos.csv fixes the test set by --split_column part; leave --test_share out"
        in capsys.readouterr().err
    )


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_value_too_large_for_statistics_is_an_error_with_its_file(sets, capsys):
    for name, value in (("film00a", 1e38), ("film02b", -2e15)):
        path = sets / f"sets/low/{name}.npy"
        x = np.load(path)
        x[0, 0] = value
        np.save(path, x)
    assert main(FIT) == 2
    err = capsys.readouterr().err
    for name, value in (("film00a", "1e+38"), ("film02b", "2e+15")):
        assert (
            f"sets/low/{name}.npy: a value of {value}, too large for statistics in float32, expected at most "
            "1e+15; extract it again, or leave it out"
        ) in err


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_largest_values_that_are_read_are_trained_on(sets):
    path = sets / "sets/low/film00a.npy"
    x = np.load(path)
    x[0, 0] = 1e15
    np.save(path, x)
    assert main([*FIT, "--time=0.001s"]) == 0


def test_eval_of_a_moved_fit_asks_for_the_list(sets, capsys):
    assert main([*FIT, "--time=0.001s"]) == 0
    (sets / "out").rename(sets / "moved")
    assert main(["eval", "--weights=moved", "--save_dir=again"]) == 2
    assert "out/test.list: no such file" in (error := capsys.readouterr().err)
    assert "give --filelist=moved/test.list with paths that exist from here" in error
    assert main(["eval", "--weights=moved", "--save_dir=again", "--filelist=moved/test.list"]) == 0


def test_the_commands_of_a_fit_into_an_absolute_folder_run_and_eval_asks_for_its_list(sets, capsys):
    assert main(["fit", "sets", f"--save_dir={sets}/out", "--time=0.001s"]) == 0
    assert f"--filelist={sets}/out/test.list" in (sets / "out/report.html").read_text(encoding="utf-8")
    for command in record()["commands"]:
        assert main(command.split()[1:]) == 0, command
    capsys.readouterr()
    assert main(["eval", "--weights=out", "--save_dir=again"]) == 2
    error = capsys.readouterr().err
    assert "TEST.filelist: no such file below the working folder" in error
    assert "had an absolute --save_dir; give --filelist=out/test.list" in error


def test_without_time_only_linear_candidates_are_compared(sets, capsys):
    assert main([*FIT, "--time=0.001s"]) == 0
    assert set(record()["left_out"]) == {"MLP", "LatentTransformer", "AttentionLSTM"}
    assert "MLP is left out: no time was left" in capsys.readouterr().err


def test_a_candidate_that_would_take_too_long_is_abandoned_early_in_its_first_fold(sets, monkeypatch):
    """Each step takes a second of a clock of its own: 40 steps in 5 folds are 200 s, of less than 42 left."""
    steps = []
    learn = cross_validation.Learner.learn
    monkeypatch.setattr(candidates, "_MIN_STEPS", 40)
    monkeypatch.setattr(candidates, "_MAX_STEPS", 40)
    monkeypatch.setattr(cross_validation, "time", SimpleNamespace(monotonic=lambda: float(len(steps))))
    monkeypatch.setattr(
        cross_validation.Learner, "learn", lambda *args, **kwargs: steps.append(learn(*args, **kwargs))
    )
    assert main([*FIT, "--time=60s"]) == 0
    assert set(record()["left_out"]) == {"MLP", "LatentTransformer", "AttentionLSTM"}
    assert len(steps) == 3 * 4


def test_several_labels_missing_ones_and_a_csv_are_a_multi_label_task_whose_commands_run(sets):
    rows = ["path,labels,film"]
    for index, path in enumerate(sorted((sets / "sets").rglob("*.npy"))):
        labels = ["", "high", "high|odd", "odd"][index % 4] if "high" in str(path) else ["", "odd"][index % 2]
        rows.append(f"{path.relative_to(sets)},{labels},{index // 2}")
    (sets / "videos.csv").write_text("\n".join(rows), encoding="utf-8")
    assert main(["fit", "videos.csv", "--save_dir=out", "--group_column=film"]) == 0
    assert record()["task"] == "multi_label"
    for command in record()["commands"]:
        assert main(command.split()[1:]) == 0, command


def test_a_class_with_two_videos_does_not_stop_a_fit_and_is_named(sets, capsys):
    for letter in "ab":
        path = sets / f"sets/rare/r{letter}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, np.full((3, 5), 7, np.float32) + ord(letter))
    assert main(FIT) == 0
    assert "rare (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--seg_num=8"], "the source already holds features, so no extractor runs; leave out --extr"),
        (["--seg_num=1000001"], "--seg_num: '1000001' is not an integer from 1 to 1000000"),
        (["--seed=2147483648"], "--seed: '2147483648' is not an integer from 0 to 2147483647"),
        (["--seed=-1"], "--seed: '-1' is not an integer from 0 to 2147483647"),
        (["--test_share=0"], "--test_share 0: expected a share above 0 and at most 0.5"),
        (["--test_share=0.51"], "--test_share 0.51: expected a share above 0 and at most 0.5"),
        (["--time=soon"], "not a duration such as 90s"),
        (["--separator=;"], "for a CSV, but sets is a folder"),
    ],
)
def test_a_flag_that_cannot_be_kept_is_an_error(sets, capsys, change, message):
    assert main([*FIT, *change]) == 2
    assert message in capsys.readouterr().err


def test_one_group_or_one_class_is_an_error(sets, capsys):
    assert main([*FIT, "--group_by=(film)"]) == 2
    assert "48 videos in 1 groups, expected at least 3" in capsys.readouterr().err
    assert main(["fit", "sets/low", "--save_dir=out"]) == 2


def test_videos_are_extracted_and_new_ones_tagged_with_the_same_frames(work_dir, capsys):
    for index in range(12):
        spec = ClipSpec("circle", ("red", "blue")[index % 2], "dark", "place", seed=index)
        path = work_dir / f"sets/{spec.color}/{index}.mp4"
        write_video(path, render(spec, num_frames=6, size_px=32), fps=12)
    assert main([*FIT, "--time=0.001s", "--seg_num=4"]) == 0
    assert record()["extractor"] == {"weights": "efficientnet_lite0_imagenet", "seg_num": 4}
    assert np.load("out/features/sets/red/0.npy").shape == (4, 1280)
    capsys.readouterr()
    assert main(["tag", "sets/red/0.mp4", "--weights=out", "--json", "--backend=paddle"]) == 0
    (tagged,) = json.loads(capsys.readouterr().out)
    assert tagged["tags"][0]["class_name"] == "red"
    assert main(["tag", "sets/red/0.mp4", "--weights=out", "--predictor_weights=out"]) == 2
    assert "has its own; leave --predictor_weights out" in capsys.readouterr().err
    with Tagger.load(weights="out", backend="paddle") as tagger:
        assert len(tagger.features("sets/red/0.mp4")) == 4


def test_a_time_limit_lowers_the_number_of_frames_which_a_second_run_keeps(work_dir, capsys, monkeypatch):
    for index in range(14):
        spec = ClipSpec("circle", ("red", "blue")[index % 2], "dark", "place", seed=index)
        write_video(
            work_dir / f"sets/{spec.color}/{index}.mp4", render(spec, num_frames=20, size_px=32), fps=10
        )
    assert main([*FIT, "--time=0.1s"]) == 0  # 2 s of video are 16 frames
    assert record()["extractor"]["seg_num"] == 8
    assert "extracting 8 of 16 frames of each video, to keep --time" in capsys.readouterr().err
    assert main([*FIT, "--time=0.001s"]) == 0
    assert record()["extractor"]["seg_num"] == 8
    assert main([*FIT, "--time=0.001s", "--seg_num=9"]) == 0
    assert np.load("out/features/sets/red/0.npy").shape == (9, 1280)


def test_advice_names_classes_that_need_videos():
    rows = [
        ClassRow("cat", 200, 20, 0.9),
        ClassRow("dog", 5, 0, 0.3),
        ClassRow("cow", 0, 1, None),
    ]
    text = "\n".join(advice(rows, 200))
    assert "no training video of cow" in text
    assert "fewer than 10 training videos of dog (5)" in text
    assert "no test video of dog" in text
    assert "5 to 200 training videos" in text
    assert "every training video has cat" in text


def test_a_forecast_continues_the_power_law_of_the_error():
    """1 - mAP = 2 / sqrt(n): .4, .2, .1 at 25, 100, 400, so .05 at 1,600."""
    curve = [CurvePoint(n, 1 - 2 / n**0.5, 0.0) for n in (25, 100, 400)]
    expected, low, _ = forecast(curve, 1600)
    assert expected == pytest.approx(0.95)
    assert low == pytest.approx(0.95)
    assert forecast(curve[:2], 800) is None
    assert forecast([CurvePoint(n, 0.5, 0.1) for n in (25, 100, 400)], 800) is None
