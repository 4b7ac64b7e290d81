"""The benchmark writes what it measured, and its contestants do the same work. No test looks at times."""

from __future__ import annotations

import json
import mmap
import os
import platform
import socket
import subprocess
import sys
import threading
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "benchmark"))
import baseline
import bench
import bench_clips
import bench_decode
import bench_extraction
import bench_functions
import bench_metrics
import bench_profile
import bench_records
import bench_stage_one
import bench_stage_two
import bench_training
import process_family
from bench_child import BenchError, Child
from bench_machine import describe_machine, machine_lines
from bench_options import BASELINE, Options, clips_of
from bench_report import (
    BEGIN,
    END,
    Line,
    Part,
    between_marks,
    format_number,
    markdown,
    read_results,
    take_turns,
)

from videotag.errors import ConfigError, VideotagError
from videotag.media.video import FrameReader, probe
from videotag.metrics import TaggingMetrics
from videotag.system.cores import MKL_VARIABLE, MKL_VARIABLES, mkl_cpu_type

TINY = bench_clips.ClipKind(64, 48, 1, 100)
TSN_YAML = """
MODEL: {name: TSN, num_layers: 18, num_classes: 3}
INFER: {seg_num: 4, short_size: 40, target_size: 32, backend: paddle}
"""
TAGGER_YAML = """
MODEL: {name: AttentionLSTM, feature_dims: [5], num_classes: 4, embedding_size: 6, lstm_size: 3,
        fc_sizes: [8, 7]}
"""


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A clip of 25 frames."""
    return bench_clips.clip(TINY, tmp_path_factory.mktemp("clips"))


# ---------------------------------------------------------------- numbers


def test_ratios_are_the_medians_of_the_rounds_ratios_by_hand():
    rounds = {"old": [10.0, 40.0, 12.0], "new": [2.0, 5.0, 4.0]}
    line = Line("x", "seconds", rounds, reference="old")
    assert line.medians() == {"old": 12.0, "new": 4.0}
    assert line.ratios() == {"new": 5.0}  # of 5, 8 and 3
    line = Line("x", "frames/s", rounds, reference="old", more_is_better=True)
    assert line.ratios() == {"new": 0.2}  # of 0.2, 0.125 and 1/3


@pytest.mark.parametrize(
    ("line", "met"),
    [
        (Line("", "s", {"old": [8.0], "new": [2.0]}, reference="old", goals={"new": 4.0}), True),
        (Line("", "s", {"old": [8.0], "new": [2.0]}, reference="old", goals={"new": 4.1}), False),
        (Line("", "s", {"new": [2.0]}, reference="old", goals={"new": 4.0}), None),
        (Line("", "MB", {"new": [2.0, 9.0, 3.0]}, goals={"new": 3.0}), True),
        (Line("", "MB", {"new": [2.0, 9.0, 3.0]}, goals={"new": 2.9}), False),
        (Line("", "MB", {"new": [2.0]}), None),
    ],
)
def test_a_goal_is_met_by_ratio_or_else_by_median(line, met):
    assert line.is_met("new") is met


def test_contestants_take_turns():
    calls: list[str] = []

    def measure(name):
        calls.append(name)
        return float(len(calls))

    rounds = take_turns({name: (lambda name=name: measure(name)) for name in "AB"}, 2)
    assert calls == ["A", "B", "A", "B"]
    assert rounds == {"A": [1.0, 3.0], "B": [2.0, 4.0]}


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (1234.5, "1,234"), (12.345, "12.3"), (0.5, "0.5"), (0.00012, "1.2e-04")]
)
def test_numbers_are_shown_with_three_digits(number, text):
    assert format_number(number) == text


def test_ratios_divide_the_whole_by_the_sum_of_its_parts_of_the_same_round():
    rounds = {"videotag": [3.0, 6.0], "its decoding alone": [1.0, 1.0], "its network alone": [2.0, 4.0]}
    assert bench_extraction.time_ratios(rounds) == [1.0, 1.2]


# ---------------------------------------------------------------- files


def test_only_what_stands_between_the_marks_is_replaced():
    text = f"# Title\nbefore\n{BEGIN}\nold\n{END}\nafter\n"
    assert between_marks(text, "new\n", Path("p")) == f"# Title\nbefore\n{BEGIN}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{END}", f"{BEGIN}{BEGIN}{END}"])
def test_a_file_without_its_two_marks_is_refused(text):
    with pytest.raises(
        ConfigError, match=r"p\.md: expected one <!-- bench:begin --> and one <!-- bench:end -->"
    ):
        between_marks(text, "new\n", Path("p.md"))


@pytest.fixture
def fakes(monkeypatch, work_dir):
    """Three parts that measure nothing, the last of which fails when FAIL is set."""

    def fast(options):
        rounds = {BASELINE: [9.0, 6.0], "videotag": [3.0, 3.0]}
        line = Line("a clip", "seconds", rounds, reference=BASELINE, goals={"videotag": 2.0})
        return Part("Fast", [line], ["A note."])

    def empty(options):
        return Part("Empty", [], ["Nothing is installed."])

    def last(options):
        if os.environ.get("FAIL"):
            raise OSError("it broke") if os.environ["FAIL"] == "disk" else BenchError("it broke")
        return Part("Last", [Line("memory", "MB", {"videotag": [2000.0]}, goals={"videotag": 1500.0})])

    monkeypatch.setattr(bench, "PARTS", {"fast": fast, "empty": empty, "last": last})
    return work_dir


def test_the_driver_writes_a_table_and_numbers_that_agree_with_the_rounds(fakes, capsys):
    Path("docs").mkdir()
    Path("docs/performance.md").write_text(f"# Mine\n{BEGIN}\nold\n{END}\nrest\n", encoding="utf-8")
    assert bench.main([]) == 0
    text = Path("docs/performance.md").read_text(encoding="utf-8")
    assert text.startswith(f"# Mine\n{BEGIN}\nMeasured by `make bench`:\n")
    assert text.endswith(f"{END}\nrest\n")
    assert "| a clip, seconds | the baseline | 7.5 | 1 |  |\n" in text
    assert "|  | videotag | 3 | 2.5 | at least 2: met |\n" in text  # of 3 and 2
    assert "| memory, MB | videotag | 2,000 | at most 1500: missed |\n" in text
    today = datetime.now(tz=timezone.utc).date().isoformat()
    assert f"### Empty\n\nNothing is installed.\nMeasured on {today}.\n" in text
    found = json.loads(Path("docs/performance.json").read_text(encoding="utf-8"))
    assert list(found["parts"]) == ["fast", "empty", "last"]
    line = found["parts"]["fast"]["lines"][0]
    assert line["rounds"] == {BASELINE: [9.0, 6.0], "videotag": [3.0, 3.0]}
    assert (line["medians"]["videotag"], line["ratios"], line["goals_met"]) == (
        3.0,
        {"videotag": 2.5},
        {"videotag": True},
    )
    assert found["command"] == "make bench"
    assert "| a clip, seconds |" in capsys.readouterr().out


def test_a_quick_run_writes_beside_the_docs_and_has_no_goals(fakes):
    assert bench.main(["--quick"]) == 0
    assert not Path("docs").exists()
    assert "at least" not in Path("data/bench/performance.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("how", ["1", "disk"])
def test_a_part_that_fails_is_named_and_the_rest_is_written(fakes, monkeypatch, capsys, how):
    monkeypatch.setenv("FAIL", how)
    assert bench.main(["--output=out"]) == 1
    assert "bench: failed: last: it broke" in capsys.readouterr().err
    assert list(read_results(Path("out"))["parts"]) == ["fast", "empty"]


def test_only_some_parts_are_measured_anew_and_the_others_stay(fakes, monkeypatch, capsys):
    assert bench.main(["--output=out", "--only=last,fast"]) == 0
    assert list(read_results(Path("out"))["parts"]) == ["fast", "last"]
    bench.PARTS["empty"] = lambda options: Part("Anew")
    assert bench.main(["--output=out", "--only=empty"]) == 0
    assert [part["title"] for part in read_results(Path("out"))["parts"].values()] == ["Fast", "Anew", "Last"]
    assert bench.main(["--output=out", "--only=empty", "--rounds=3"]) == 0
    parts = read_results(Path("out"))["parts"]
    assert {name: part["rounds"] for name, part in parts.items()} == {"fast": None, "empty": 3, "last": None}
    assert " with --rounds=3.\n" in Path("out/performance.md").read_text(encoding="utf-8")
    assert bench.main(["--output=out", "--only=empty", "--quick"]) == 2
    assert "out: its numbers come from another command; measure all parts" in capsys.readouterr().err
    monkeypatch.setattr(bench, "describe_machine", lambda: {"cpu": "another"})
    assert bench.main(["--output=out", "--only=empty"]) == 2
    assert "out: its numbers come from another machine; measure all parts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only=decode2"], "--only=decode2: unknown part 'decode2'; there are fast, empty, last"),
        (["--output=numbers/performance.json"], "--output=numbers/performance.json: not a folder;"),
        (["--only="], "--only=: unknown part ''; there are fast, empty, last"),
        (["--rounds=0"], "--rounds=0: expected at least 1"),
        (["--videos=none"], "--videos=none: no video in it, no files; name a folder that holds some"),
        (["--videos=marks"], "--videos=marks: no video in it, 1 file left out (.md 1); name a folder"),
        (["--output=marks"], "performance.md: expected one <!-- bench:begin -->"),
        (["--output=numbers", "--only=fast"], "performance.json: not the numbers of a benchmark"),
    ],
)
def test_mistakes_are_found_before_work(fakes, capsys, words, message):
    Path("marks").mkdir()
    Path("marks/performance.md").write_text("no marks", encoding="utf-8")
    Path("numbers").mkdir()
    Path("numbers/performance.json").write_text("{}", encoding="utf-8")
    assert bench.main(words) == 2
    assert message in capsys.readouterr().err


def test_the_machine_is_described_without_its_name_or_paths(monkeypatch):
    for module, function in ((platform, "node"), (socket, "gethostname")):
        monkeypatch.setattr(module, function, lambda: "the-name-of-it")
    monkeypatch.setenv("HOME", "/home/the-user-of-it")
    machine = describe_machine()
    text = json.dumps(machine) + "\n".join(machine_lines(machine))
    assert machine["cores"] >= 1
    assert machine["packages"]["numpy"] == np.__version__
    for private in ("of-it", str(Path(__file__).resolve().parents[2])):
        assert private not in text


def test_the_table_in_the_docs_is_that_of_the_numbers_beside_it():
    folder = Path(__file__).resolve().parents[2] / "docs"
    text = (folder / "performance.md").read_text(encoding="utf-8")
    assert between_marks(text, markdown(read_results(folder)), Path("docs/performance.md")) == text


# ---------------------------------------------------------------- processes


def test_a_contestant_in_a_process_of_its_own_is_measured_again_and_again():
    with Child("bench_metrics:Metrics", is_baseline=False) as child:
        values = [child.measure(count=30, num_classes=25, batch_size=10)["values"] for _ in range(2)]
        assert values[0] == values[1]
        assert child.pid in process_family.family(os.getpid())
        assert process_family.pss_mb(child.pid) > 1
        assert process_family.cpu_sec(child.pid) >= 0
    assert process_family.pss_mb(child.pid) == 0
    assert process_family.cpu_sec(child.pid) == 0


def test_a_child_that_another_thread_has_started_is_of_the_family():
    started, seen = threading.Event(), threading.Event()
    children = []

    def start():
        children.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        started.set()
        seen.wait()

    thread = threading.Thread(target=start)
    thread.start()
    started.wait()
    try:
        assert children[0].pid in process_family.family(os.getpid())
    finally:
        seen.set()
        thread.join()
        children[0].communicate(b"\n")


def test_what_goes_wrong_in_a_contestant_is_said():
    with (
        pytest.raises(BenchError, match=r"bench_metrics:None1: its process ended: AttributeError"),
        Child("bench_metrics:None1"),
    ):
        pass
    with (
        Child("baseline:Decode") as child,
        pytest.raises(BenchError, match=r"baseline:Decode: .*(OpenCV|opencv)"),
    ):
        child.measure(path="none.mp4", num_frames=2)


def test_no_contestant_stays_when_another_cannot_start(tmp_path):
    before = set(process_family.family(os.getpid()))
    specs = {"a": "bench_metrics:Metrics", "b": "bench_metrics:None1", "c": "bench_metrics:Metrics"}
    arguments = {name: {"is_baseline": False} for name in "ac"}
    with (
        pytest.raises(BenchError, match="None1: its process ended"),
        Options(tmp_path).children(specs, arguments),
    ):
        pass
    assert set(process_family.family(os.getpid())) == before


def test_the_peak_of_memory_is_that_of_the_whole_family():
    taken = mmap.mmap(-1, 400_000_000)  # not an array's memory: this process may have kept some that is free

    def fill():
        taken.write(bytes(len(taken)))

    before = process_family.peak_family_mb(os.getpid(), lambda: None)
    peak = process_family.peak_family_mb(os.getpid(), fill)
    assert peak > before + 300  # sampled at the end of the work at least
    assert process_family.peak_family_mb(10**9, lambda: None) == 0


def test_a_part_without_opencv_says_so_and_leaves_the_baseline_out(tmp_path, monkeypatch):
    monkeypatch.setattr(baseline, "has_opencv", lambda: False)
    monkeypatch.setattr(bench_clips, "SMALL", (TINY,))
    monkeypatch.setattr(bench_clips, "LARGE", (TINY,))
    monkeypatch.setattr(bench_decode, "NUM_FRAMES", 3)
    monkeypatch.setattr(baseline, "CROP_PX", 32)
    part = bench_decode.run(Options(tmp_path, quick=True, rounds=2))
    assert part.notes == [f"{baseline.REMEDY}."]
    for line in part.lines:
        assert {name: len(numbers) for name, numbers in line.rounds.items()} == {
            bench_decode.HERE: 2,
            bench_decode.POOL: 2,
        }
    with pytest.raises(VideotagError, match="opencv-python-headless is not installed"):
        baseline.decode("any.mp4", 3)


# ---------------------------------------------------------------- contestants


def test_generated_film_is_the_same_every_time_and_of_the_size_asked_for(film):
    frames = [np.stack(list(bench_clips.film_frames(64, 48, 3, seed=1))) for _ in range(2)]
    assert frames[0].shape == (3, 48, 64, 3)
    assert (frames[0] == frames[1]).all()
    info = probe(film)
    assert (info.width_px, info.height_px, info.num_frames, info.fps) == (64, 48, 25, 25)


def test_a_looped_film_shows_its_source_again_and_again(film, tmp_path):
    bench_clips.write_looped(tmp_path / "long.mp4", film, seconds=3)
    frames = [frame.image for frame in FrameReader(tmp_path / "long.mp4", None, short_side_px=None)]
    assert len(frames) == 75
    assert all((frames[i] == frames[i + 50]).all() for i in range(25))


def test_files_of_the_own_folder_that_are_no_videos_are_counted(fakes, film, capsys):
    Path("own").mkdir()
    Path("own/a.mp4").write_bytes(film.read_bytes())
    Path("own/notes.txt").touch()
    assert bench.main(["--videos=own", "--output=out", "--only=empty"]) == 0
    assert "own: 1 video; 1 file left out (.txt 1)" in capsys.readouterr().err


def test_own_videos_are_named_by_number_and_not_by_path(film, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_clips, "SMALL", ())
    monkeypatch.setattr(bench_clips, "LARGE", ())
    found = clips_of(Options(tmp_path, videos_dir=film.parent))
    assert found == [("own video 1, 64x48, 1 s", str(film))]


def test_the_baseline_scales_cuts_and_normalises():
    frame = np.zeros((100, 200, 3), np.uint8)
    frame[:, :100] = 255
    image = baseline.prepared(frame)
    assert image.shape == (224, 224, 3)
    assert (image[:, :100] == 255).all()
    assert (image[:, 124:] == 0).all()
    x = baseline.normalized(np.array([[[[255, 0, 0]]]], np.uint8))
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    np.testing.assert_allclose(x[0, :, 0, 0], expected, rtol=1e-6)
    assert x.shape == (1, 3, 1, 1)


def test_the_baseline_decodes_the_frames_that_ours_decodes(film):
    pytest.importorskip("cv2", reason="OpenCV is only there with the extra `bench`")
    images = baseline.decode(film, 25)
    assert (images.shape, images.dtype) == ((25, 224, 224, 3), np.uint8)
    ours = [frame.image for frame in FrameReader(film, 25, crop_px=224)]
    assert np.abs(images.astype(int) - np.stack(ours)).mean() < 4  # other scaling, other colour tables
    assert baseline.decode(film, 30).shape[0] == 30
    assert (baseline.decode(film, 30)[25:] == images[:5]).all()  # starts again


def test_the_baseline_metrics_are_ours():
    ours, theirs = TaggingMetrics(), baseline.Metrics(40)
    rng = np.random.default_rng(0)
    all_scores = rng.permutation(300 * 40).reshape(5, 60, 40) / (300 * 40)  # without ties, which differ
    all_labels = rng.random(all_scores.shape) < 0.2 * all_scores
    for scores, labels in zip(all_scores, all_labels, strict=True):
        labels[::7] = False  # videos without labels
        ours.update(scores, labels)
        theirs.update(scores, labels)
    for name, value in theirs.compute().items():
        assert value == pytest.approx(ours.compute()[name], abs=1e-12), name


def test_metrics_contestants_give_the_same_values():
    found = [
        bench_metrics.Metrics(is_baseline).measure(count=50, num_classes=30, batch_size=20)
        for is_baseline in (True, False)
    ]
    for name, value in found[0]["values"].items():
        assert value == pytest.approx(found[1]["values"][name], abs=1e-12)
    assert all(numbers["growth_mb"] >= 0 for numbers in found)


@pytest.mark.slow
def test_extraction_contestants_write_features_of_every_video(film, work_dir):
    Path("tsn.yaml").write_text(TSN_YAML, encoding="utf-8")
    bench_stage_one.MakeWeights("tsn.pdparams", config="tsn.yaml")
    shared = {"weights": "tsn.pdparams", "num_frames": 4, "config": "tsn.yaml"}
    paths = bench_extraction.copies([str(film)], 2, work_dir)
    assert [Path(path).name for path in paths] == ["0-0.mp4", "1-0.mp4"]
    ours = bench_extraction.Extract(precision="f32", first=str(film), **shared)
    assert ours.measure(paths)["written"] == 2
    assert ours.facts["runtime"].startswith("paddle ")
    assert bench_extraction.NetworkAlone(precision="f32", first=str(film), **shared).measure(paths)["seconds"]
    assert bench_extraction.DecodeAlone(**shared).measure(paths)["seconds"]
    assert bench_stage_one.Frames("tsn.pdparams", "f32", config="tsn.yaml").measure(count=3)["rate"]
    images = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    assert baseline.Network("tsn.pdparams", config="tsn.yaml").features(images).shape == (3, 512)


def test_stage_two_contestants_agree(work_dir):
    Path("tagger.yaml").write_text(TAGGER_YAML, encoding="utf-8")
    for backend in (None, "paddle"):
        tagger = bench_stage_two.Tagger(backend, "f32", f"{backend}.npy", count=2, config="tagger.yaml")
        assert tagger.measure(count=2)["rate"]
    found = [np.load(f"{backend}.npy") for backend in (None, "paddle")]
    assert found[0].shape == (2, 4)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_training_is_shown_as_it_was_measured(monkeypatch, tmp_path):
    ways = {
        "cut": {"rates": [3.0, 6.0], "padding_share": 0.03},
        "padded": {"rates": [2.0, 3.0], "padding_share": 0.33},
    }
    kernels = {str(number): float(number) for number in range(8)}
    asked = []

    class Measured:
        def measure(self, **size):
            asked.append(size)
            return {**ways, "kernels": kernels, "loader_wait_share": 0.001}

    monkeypatch.setattr(Options, "child", lambda self, spec: nullcontext(Measured()))
    speed, padding, waits, step = bench_training.run(Options(tmp_path, quick=True, rounds=2)).lines
    (size,) = asked
    assert (size["rounds"], size["batch_size"], size["steps"], size["num_videos"]) == (2, 16, 2, 2048)
    assert size["num_files"] < size["num_videos"]
    assert size["warm_steps"].keys() == ways.keys()
    assert speed.rounds == {bench_training.PADDED: [2.0, 3.0], bench_training.OURS: [3.0, 6.0]}
    assert speed.reference == bench_training.PADDED
    assert padding.rounds[bench_training.OURS] == [3.0]
    assert waits.rounds == {bench_training.OURS: [0.1]}
    assert list(step.rounds) == ["0", "1", "2", "3", "4", "5", "others"]
    assert step.rounds["others"] == [13.0]


@pytest.mark.parametrize(("cpu_type", "quick"), [("5", False), ("5", True), (None, False)])
def test_training_is_also_measured_as_a_script_would_find_mkl(monkeypatch, tmp_path, cpu_type, quick):
    way = {"rates": [1.0], "padding_share": 0.0}
    asked = []

    def child(self, spec, *, is_plain=False):
        def measure(*, ways=("cut", "padded"), **_):
            asked.append((is_plain, *ways))
            return {**dict.fromkeys(ways, way), "kernels": {}, "loader_wait_share": 0.0}

        return nullcontext(SimpleNamespace(measure=measure))

    monkeypatch.setattr(Options, "child", child)
    monkeypatch.setattr(bench_training, "mkl_cpu_type", lambda: cpu_type)
    speed, *_ = bench_training.run(Options(tmp_path, quick=quick, rounds=1)).lines
    also = cpu_type is not None and not quick
    assert asked == [(False, "cut", "padded")] + [(True, "padded")] * also
    assert list(speed.rounds) == [bench_training.PLAIN] * also + ["padded to 300", "videotag"]


@pytest.mark.skipif(mkl_cpu_type() is None, reason="MKL needs not be told of this CPU")
@pytest.mark.parametrize("is_plain", [True, False])
def test_a_plain_contestant_finds_mkl_as_a_script_does(tmp_path, monkeypatch, is_plain):
    for name in MKL_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "told.py").write_text(
        "import os\nclass Told:\n    def __init__(self):\n"
        f"        self.facts = {{'mkl': os.environ.get('{MKL_VARIABLE}')}}\n"
    )
    with Child("told:Told", environment={"PYTHONPATH": str(tmp_path)}, is_plain=is_plain) as child:
        assert child.facts == {"mkl": None if is_plain else mkl_cpu_type()}


def test_records_are_read_on_one_core_which_comes_back(tmp_path):
    cores = os.sched_getaffinity(0)
    try:
        reader = bench_records.Reader("videotag")
        bench_records.write_yt8m(tmp_path / "r.tfrecord", bench_records.records.generated(3, 2))
        assert reader.measure(str(tmp_path / "r.tfrecord"))["rate"] > 0
    finally:
        reader._stack.close()
    assert os.sched_getaffinity(0) == cores


def test_samples_are_counted_by_the_innermost_function():
    decoder = (
        'process 1:"python x";process 2:"python -c from videotag.media.decode_pool import serve; serve()";'
    )
    samples = [
        'process 1:"python x";<module> (bench_child.py:1);infer (openvino/_ov_api.py:202) 6',
        'process 1:"python x";<module> (bench_child.py:1);infer (openvino/_ov_api.py:9) 1',
        f"{decoder}_receive (videotag/media/decode_pool.py:264) 40",  # waits
        f"{decoder}serve (videotag/media/decode_pool.py:2);decode (videotag/media/container.py:7) 2",
        f"{decoder}_find_and_load (<frozen importlib._bootstrap>:1);f (<frozen importlib._bootstrap>:2) 1",
    ]
    shares = dict(bench_functions.shares_of("\n".join(samples)))
    assert shares == {
        "infer (_ov_api.py), in the process": 70.0,
        "decode (container.py), in a decoder": 20.0,
        "importing modules, in a decoder": 10.0,
    }
    many = "\n".join(f"f{index} (a.py:1) {1 if index else 11}" for index in range(10))
    shares = bench_functions.shares_of(many)
    assert (len(shares), shares[0], shares[-1]) == (9, ("f0 (a.py), in the process", 55.0), ("others", 10.0))


def test_a_profile_without_its_tool_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_functions, "py_spy", lambda: None)
    part = bench_functions.run(Options(tmp_path))
    assert (part.lines, part.notes) == ([], ["py-spy is not installed; pip install 'videotag[bench]'."])
    monkeypatch.setattr("videotag.runtime.backends.Backend.version", lambda backend: None)
    part = bench_profile.run(Options(tmp_path))
    assert (part.lines, part.notes) == ([], ["OpenVINO is not installed; pip install 'videotag[openvino]'."])


def test_layers_are_summed_by_kind_and_small_kinds_are_put_together():
    def layer(kind, microseconds):
        time = timedelta(microseconds=microseconds)
        return SimpleNamespace(node_type=kind, exec_type="jit", real_time=time)

    layers = [
        layer("Convolution", 2000),
        layer("Convolution", 3000),
        layer("Pooling", 500),
        layer("Parameter", 0),
    ]
    counts, spent = bench_profile.by_kind(layers)
    assert counts == {"Convolution, jit": 2, "Pooling, jit": 1}
    assert spent == {"Convolution, jit": pytest.approx(5.0), "Pooling, jit": pytest.approx(0.5)}
    kinds = [("Convolution", 2, [5.0, 5.0]), ("Pooling", 1, [0.01, 0.01]), ("Reorder", 3, [0.02, 0.01])]
    assert bench_profile.folded(kinds) == [
        ("Convolution", 2, [5.0, 5.0]),
        ("others", 4, [pytest.approx(0.03), pytest.approx(0.02)]),
    ]
