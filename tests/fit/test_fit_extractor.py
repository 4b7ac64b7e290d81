"""The first stage of a fit: its number of frames, and the copy of an extractor that no name stands for."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from videotag.cli.main import main
from videotag.fit import features
from videotag.formats.filelist import ListEntry
from videotag.inference.outputs import Summary
from videotag.inference.tagger import Tagger
from videotag.media.synthetic import ClipSpec, render
from videotag.media.writer import write_video
from videotag.system.resources import find_resource
from videotag.weights import DEFAULT_EXTRACTOR, find_weights

FIT = ["fit", "clips", "--save_dir=out", "--time=0.001s", "--seg_num=2"]
pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture
def clips(work_dir):
    """Six clips of two classes; and small.yaml, in which EfficientNet-Lite0 sees 64 pixels."""
    for index in range(6):
        spec = ClipSpec("circle", ("red", "blue")[index % 2], "dark", "place", seed=index)
        write_video(
            work_dir / f"clips/{spec.color}/{index}.mp4", render(spec, num_frames=4, size_px=32), fps=12
        )
    config = yaml.safe_load(find_resource(find_weights(DEFAULT_EXTRACTOR).config).read_text(encoding="utf-8"))
    config["INFER"] |= {"short_size": 64, "target_size": 64}
    (work_dir / "small.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return work_dir


def test_a_config_with_named_weights_is_kept_for_new_videos(clips):
    assert main([*FIT, "--extractor_config=small.yaml"]) == 0
    made = yaml.safe_load((clips / "out/fit.yaml").read_text(encoding="utf-8"))
    assert made["extractor"]["weights"].startswith("extractor/")
    with Tagger.load(weights="out", backend="paddle") as tagger:
        found = tagger.features("clips/red/0.mp4")
    np.testing.assert_allclose(found, np.load("out/features/clips/red/0.npy"), rtol=1e-4, atol=1e-4)
    assert main(made["commands"][0].split()[1:]) == 0


def test_a_kill_while_the_extractor_is_replaced_leaves_no_tagger(clips, monkeypatch):
    own = clips / "own"
    own.mkdir()
    shutil.copy(find_weights(DEFAULT_EXTRACTOR).path, own / "tsn.pth")
    shutil.copy("small.yaml", own / "config.yaml")
    assert main([*FIT, "--extractor_weights=own/tsn.pth"]) == 0
    assert (clips / "out/extractor/tsn.pth").is_file()
    (clips / "own").rename(clips / "other")

    def kill(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(features.shutil, "copy2", kill)
    assert main([*FIT, "--extractor_weights=other/tsn.pth"]) == 130
    assert not (clips / "out/fit.yaml").exists()


def test_weights_of_a_tagger_are_no_extractor(clips, capsys):
    (clips / "tagger").mkdir()
    (clips / "tagger/mine.pdparams").touch()
    (clips / "tagger/config.yaml").write_text("MODEL: {name: MeanPool, num_classes: 2}", encoding="utf-8")
    assert main([*FIT, "--extractor_weights=tagger/mine.pdparams"]) == 2
    message = "tagger/mine.pdparams: MeanPool is not an extractor; give a TSN's weights"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("num_kept", "expected"),
    [(9, 16), (2, 16), (12, 32)],  # a second each: 24 s for all videos, or unknown
)
def test_frames_for_a_time_limit_follow_from_the_videos_that_were_extracted(monkeypatch, num_kept, expected):
    now = [0.0]

    def run_job(_job, entries, *_args, **_options):
        written = max(0, len(entries) - num_kept)
        now[0] += written
        return Summary(written=written, kept=len(entries) - written)

    monkeypatch.setattr(features, "run_job", run_job)
    monkeypatch.setattr(features, "time", SimpleNamespace(monotonic=lambda: now[0]))
    entries = [ListEntry(f"{index}.mp4") for index in range(24)]
    assert features._affordable_frames(None, entries, None, 32, limit_sec=12) == expected
