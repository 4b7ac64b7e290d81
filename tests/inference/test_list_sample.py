"""The frames by which a list's precision is settled: of which videos, and what follows from them."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
import pytest

from videotag.config import load_config
from videotag.errors import ConfigError
from videotag.formats.feature_files import read_features, read_stamp
from videotag.formats.filelist import ListEntry
from videotag.inference import list_sample
from videotag.inference.data import frame_entries
from videotag.inference.extract import ExtractJob
from videotag.inference.extractor import load_extractor
from videotag.inference.jobs import run_job
from videotag.inference.list_sample import SAMPLE_VIDEOS, sample_frames, select_runtime_on_list
from videotag.inference.outputs import Destination
from videotag.inference.trained_model import TrainedModel
from videotag.inputs.frames import read_first_images, read_frames
from videotag.media.decode_pool import DecodePool
from videotag.media.writer import write_video
from videotag.models import load_models
from videotag.registry import FEATURES
from videotag.runtime import backends, choice
from videotag.weights import FoundWeights

GREY_STEP = 10


@pytest.fixture
def split(tsn_dir):
    load_models()
    return load_config(tsn_dir / "tsn.yaml").infer


@pytest.fixture
def grey_list(work_dir):
    """grey_list(20): as many videos of 8 frames; all frames of video n have the grey GREY_STEP * n."""

    def make(count):
        for n in range(count):
            write_video(f"{n}.mp4", np.full((8, 48, 64, 3), GREY_STEP * n, np.uint8), fps=8)
        return [ListEntry(f"{n}.mp4") for n in range(count)]

    return make


def sampled_videos(images):
    """The numbers of the videos that frames are of."""
    return [round(float(image.mean()) / GREY_STEP) for image in images]


def test_a_long_list_gives_two_frames_of_the_first_video_of_each_eighth(grey_list, split):
    images, failed = sample_frames(grey_list(20), split)
    assert sampled_videos(images) == [n for n in (0, 2, 5, 8, 10, 12, 15, 18) for _ in range(2)]
    assert failed == {}


def test_a_short_list_gives_more_frames_of_each_video(grey_list, split):
    assert sampled_videos(sample_frames(grey_list(3), split)[0]) == [n for n in range(3) for _ in range(6)]


def test_the_next_video_of_a_part_stands_in_for_one_that_cannot_be_read(grey_list, split):
    entries = grey_list(20)
    for path in ("2.mp4", "18.mp4", "19.mp4"):
        Path(path).write_bytes(b"no video")
    images, failed = sample_frames(entries, split)
    assert sampled_videos(images)[::2] == [0, 3, 5, 8, 10, 12, 15]
    assert sorted(failed) == ["18.mp4", "19.mp4", "2.mp4"]
    assert "2.mp4: cannot be read as video" in str(failed["2.mp4"])


def test_a_list_without_a_readable_video_gives_no_frames(work_dir, split):
    Path("a.mp4").write_bytes(b"no video")
    images, failed = sample_frames([ListEntry("a.mp4"), ListEntry("missing.mp4")], split)
    assert images is None
    assert sorted(failed) == ["a.mp4", "missing.mp4"]


def test_the_first_images_are_those_of_the_whole_reading(noise_video, split):
    entry = ListEntry(noise_video("a.mp4"))
    whole = read_frames(entry, split).images
    with DecodePool() as pool:
        for count in (1, 2, 99):
            np.testing.assert_array_equal(read_first_images(entry, split, count, pool=pool), whole[:count])


@pytest.mark.parametrize("num_threads", [1, 2, 8])
def test_the_sample_depends_neither_on_threads_nor_on_who_is_first(
    noise_video, split, monkeypatch, num_threads
):
    entries = [ListEntry(noise_video(f"{n}.mp4", seed=n)) for n in range(SAMPLE_VIDEOS)]
    expected, _ = sample_frames(entries, split)
    read, last_done = read_first_images, threading.Event()

    def last_first(entry, *args, **options):
        """With a thread for each video the last one is read before the others."""
        if num_threads == SAMPLE_VIDEOS and entry.path != entries[-1].path:
            assert last_done.wait(300)
        images = read(entry, *args, **options)
        if entry.path == entries[-1].path:
            last_done.set()
        return images

    monkeypatch.setattr(list_sample, "read_first_images", last_first)
    monkeypatch.setattr(type(split), "videos_at_once", num_threads)
    np.testing.assert_array_equal(sample_frames(entries, split)[0], expected)


class Machine:
    """Stands for the backends: bf16 turns features of frames brighter than `limit` around."""

    def __init__(self, monkeypatch, limit):
        self.limit = limit
        self.compiled = []
        self._compile = choice.compile_network
        monkeypatch.setattr(choice, "compile_network", self.compile)
        monkeypatch.setattr(backends, "bf16_instructions", lambda: "avx512_bf16")

    def compile(self, trained, *, backend, precision, device):
        self.compiled.append(precision)
        network = self._compile(trained, backend="paddle", precision="f32", device=device)

        def run(inputs):
            (frames,) = inputs.values()
            features = network(inputs)[FEATURES].copy()
            if precision == "bf16":
                features[frames.mean(axis=(1, 2, 3)) > self.limit] *= -1
            return {FEATURES: features}

        return run


@pytest.fixture
def extract(tsn_dir, work_dir, caplog):
    """extract(entries, precision="auto", batch_size=2): into out/."""
    caplog.set_level(logging.INFO, logger="videotag")

    def run(entries, *, precision="auto", batch_size=2, save_dir="out"):
        runtime = {"precision": precision, "backend": "paddle", "batch_size": batch_size}
        overrides = [(f"INFER.{key}", value) for key, value in runtime.items()]
        extractor = load_extractor(
            load_config(tsn_dir / "tsn.yaml", overrides=overrides), FoundWeights(tsn_dir / "tsn.pdparams")
        )
        return run_job(ExtractJob(extractor), entries, Destination(Path(save_dir), "out.list"))

    return run


@pytest.fixture
def film_list(work_dir):
    """film_list("dark", 9): as many videos of noise, dark or bright."""

    def make(kind, count):
        low, high = {"dark": (0, 100), "bright": (150, 255)}[kind]
        for n in range(count):
            rng = np.random.default_rng(n)
            write_video(f"{kind}{n}.mp4", rng.integers(low, high, (8, 48, 64, 3), np.uint8), fps=8)
        return [ListEntry(f"{kind}{n}.mp4") for n in range(count)]

    return make


def precisions(folder="out"):
    return {read_stamp(path)["precision"] for path in Path(folder).glob("*.npy")}


def test_a_list_whose_sample_agrees_gets_bf16(extract, film_list, monkeypatch):
    Machine(monkeypatch, limit=128)
    assert extract(film_list("dark", 9)).written == 9
    assert precisions() == {"bf16"}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_list_whose_sample_disagrees_gets_f32_for_all_wherever_its_first_video_stands(
    extract, film_list, monkeypatch, caplog, batch_size
):
    Machine(monkeypatch, limit=128)
    entries = film_list("dark", 4) + film_list("bright", 4)
    for number, ordered in enumerate((entries, entries[::-1])):
        assert extract(ordered, batch_size=batch_size, save_dir=f"out{number}").written == 8
        assert precisions(f"out{number}") == {"f32"}
    for entry in entries:
        name = Path(entry.path).with_suffix(".npy")
        np.testing.assert_array_equal(read_features(f"out0/{name}"), read_features(f"out1/{name}"))
    assert "f32, as bf16 is too far from it (mean-removed cosine " in caplog.text


def test_a_folder_in_bf16_refuses_a_list_that_disagrees_before_any_work(
    extract, film_list, monkeypatch, caplog
):
    machine = Machine(monkeypatch, limit=128)
    dark, bright = film_list("dark", 3), film_list("bright", 3)
    extract([*dark, ListEntry("missing.mp4")])
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    # Noise of a network without training looks alike, and what is turned around differs by twice its length.
    values = r"RMS error \d+, expected at most \d\.\d+"
    remedies = r"give --precision=bf16 to insist, or choose another --save_dir$"
    with pytest.raises(ConfigError, match=rf"too far from f32 on this list \({values}\); {remedies}"):
        extract(bright)
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before
    assert extract(bright, precision="bf16").written == 3
    assert "in bf16 is far from f32" in caplog.text
    machine.compiled.clear()
    assert extract(dark + bright).kept == 6, "nothing is left to be verified"
    assert machine.compiled == []


def test_a_run_that_goes_on_is_verified_by_the_same_sample(extract, film_list, monkeypatch, caplog):
    Machine(monkeypatch, limit=128)
    entries = film_list("dark", 9)
    extract(entries)
    Path("out/dark4.npy").unlink()
    assert extract(entries).written == 1
    first, second = (r.getMessage() for r in caplog.records if " runs in " in r.getMessage())
    assert "agrees with f32 (relative error 0.0000)" in first
    assert "(RMS error 0)" in second
    assert "bf16: as in the folder's first run (" in second


def test_what_the_sample_found_unreadable_is_listed_and_not_tried_twice(extract, film_list, monkeypatch):
    Machine(monkeypatch, limit=128)
    tried = []
    reader = DecodePool.reader
    monkeypatch.setattr(
        DecodePool, "reader", lambda pool, path, **kw: tried.append(str(path)) or reader(pool, path, **kw)
    )
    Path("broken.mp4").write_bytes(b"no video")
    summary = extract([ListEntry("broken.mp4"), *film_list("dark", 1)])
    assert list(summary.failed) == ["broken.mp4"]
    assert tried.count("broken.mp4") == 1
    assert "broken.mp4" in Path("out/failures.jsonl").read_text(encoding="utf-8")


def test_the_sample_of_a_json_list_reads_the_field_and_not_the_id(extract, film_list, monkeypatch, tsn_dir):
    Machine(monkeypatch, limit=128)
    (entry,) = film_list("dark", 1)
    config = load_config(tsn_dir / "tsn.yaml", overrides=[("INFER.backend", "paddle")])
    model = TrainedModel.load(
        tsn_dir / "tsn.pdparams",
        tsn_dir / "tsn.yaml",
        [("INFER.backend", "paddle"), ("INFER.precision", "auto")],
    )
    samples = [ListEntry("an id", fields={"frames": entry.path}), ListEntry("without", fields={"text": "a"})]
    assert [e.path for e in frame_entries(config, config.infer, samples)] == [entry.path]
    select_runtime_on_list(model, samples, dataset=None)
    assert model._opened[1]._extractor.network.precision == "bf16"
