"""Jobs over a list: outcomes, an executor of one's own, and runs that are killed."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from videotag.config import load_config
from videotag.errors import DecoderLostError
from videotag.formats.feature_files import read_stamp
from videotag.formats.filelist import ListEntry
from videotag.inference.extract import ExtractJob
from videotag.inference.extractor import load_extractor
from videotag.inference.frame_folders import FramesJob, JpegOptions
from videotag.inference.jobs import Outcome, run_job
from videotag.inference.outputs import Destination
from videotag.models import load_models
from videotag.weights import FoundWeights

ROOT = Path(__file__).resolve().parents[2]
#: A worker: a job and some of its items in, their outcomes out.
WORKER = """
import pickle, sys
from videotag.inference.jobs import in_threads
job, items = pickle.load(sys.stdin.buffer)
outcomes = list(in_threads(job, items))
with open(sys.argv[1], "wb") as file:
    pickle.dump(outcomes, file)
"""


def in_processes(job, items):
    """An executor: each half of the items is worked on by a process that knows the pickled job alone."""
    middle = len(items) // 2
    for half in (items[:middle], items[middle:]):
        run = [sys.executable, "-c", WORKER, "outcomes.pickle"]
        subprocess.run(
            run, input=pickle.dumps((job, half)), check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        yield from pickle.loads(Path("outcomes.pickle").read_bytes())


def extract_job(tsn_dir):
    load_models()
    return ExtractJob(
        load_extractor(load_config(tsn_dir / "tsn.yaml"), FoundWeights(tsn_dir / "tsn.pdparams"))
    )


def frames_job(tsn_dir):
    return FramesJob(JpegOptions(num_frames=3))


def files_of(folder):
    """The content of every file but the lock, by its path."""
    files = (path for path in Path(folder).rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_an_outcome_can_be_pickled():
    error = DecoderLostError("a.mp4: no frame")
    for outcome in (
        Outcome("a.mp4", "written", warning="a.mp4: cut off", counts=(3,)),
        Outcome.of_error("a.mp4", error),
    ):
        assert pickle.loads(pickle.dumps(outcome)) == outcome
    assert Outcome.of_error("a.mp4", error) == Outcome("a.mp4", "failed", "a.mp4: no frame", retriable=True)


@pytest.mark.slow
@pytest.mark.parametrize("make_job", [extract_job, frames_job])
def test_an_executor_of_processes_makes_the_same_files_as_threads(tsn_dir, noise_video, make_job):
    entries = [ListEntry(noise_video(f"{i}.mp4", seed=i), (i % 2,)) for i in range(3)]
    entries.insert(1, ListEntry("missing.mp4"))
    job = make_job(tsn_dir)
    here, there = Destination(Path("a/out"), "out.list"), Destination(Path("b/out"), "out.list")
    summaries = [run_job(job, entries, here), run_job(job, entries, there, execute=in_processes)]
    assert [(s.written, list(s.failed)) for s in summaries] == [(3, ["missing.mp4"])] * 2
    expected, found = files_of("a"), files_of("b")
    assert found.pop("out/out.list") == expected.pop("out/out.list").replace(b"a/out", b"b/out")
    assert found == expected


def words(tsn_dir):
    return [
        f"--config={tsn_dir}/tsn.yaml",
        f"--weights={tsn_dir}/tsn.pdparams",
        "--filelist=v.list",
        "--save_dir=out",
    ]


def start(*command):
    code = "import sys; from videotag.cli.main import main; sys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code, *command], env=environment, start_new_session=True)


@pytest.mark.slow
def test_a_run_killed_in_the_middle_is_resumed_with_the_same_files_once(tsn_dir, noise_video):
    names = [noise_video(f"{i:02}.mp4", seed=i) for i in range(40)]
    Path("v.list").write_text("".join(f"{name} 1\n" for name in names), encoding="utf-8")
    with start("extract", *words(tsn_dir)) as process:
        deadline = time.monotonic() + 300
        while not list(Path("out").glob("*.npy")) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
    killed = {path: path.stat().st_mtime_ns for path in Path("out").glob("*.npy")}
    assert 0 < len(killed) < len(names)
    assert not Path("out/v.list").exists()
    assert json.loads(Path("out/runtime.json").read_text())["precision"] == "f32"

    job, entries = extract_job(tsn_dir), [ListEntry(name, (1,)) for name in names]
    resumed = run_job(job, entries, Destination(Path("out"), "v.list", filelist="v.list"))
    assert (resumed.kept, resumed.written) == (len(killed), len(names) - len(killed))
    assert {path: path.stat().st_mtime_ns for path in killed} == killed
    whole = run_job(job, entries, Destination(Path("whole"), "v.list"))
    assert whole.written == len(names)
    assert sorted(files_of("out")) == sorted(files_of("whole"))
    for name in names:
        one, other = Path("out", name).with_suffix(".npy"), Path("whole", name).with_suffix(".npy")
        np.testing.assert_array_equal(np.load(one), np.load(other))
        assert read_stamp(one) == read_stamp(other)
