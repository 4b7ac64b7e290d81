"""How commands end where the surroundings are hostile: names, encodings, signals, memory, full disks."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from videotag.cli import doctor
from videotag.cli.main import main
from videotag.errors import ConfigError, lacks_memory
from videotag.media.writer import write_video

ROOT = Path(__file__).resolve().parents[2]
BAD_NAME = "bad\udcff.mp4"  # as Python holds the byte 0xff of a file name


def make_video(name):
    rng = np.random.default_rng(0)
    write_video("made.mp4", rng.integers(0, 255, (8, 64, 80, 3), dtype=np.uint8), fps=8)
    Path("made.mp4").rename(name)
    return name


def videotag(*words, encoding="utf-8", stdout=subprocess.PIPE):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [sys.executable, "-m", "videotag", *words], env=environment, stdout=stdout, stderr=subprocess.PIPE
    )


# ---------------------------------------------------------------- names and encodings


@pytest.mark.parametrize("file_format", ["json", "jsonl", "csv"])
def test_a_name_that_is_not_unicode_stands_in_every_output(work_dir, capsys, file_format):
    names = [make_video(BAD_NAME), make_video("b.mp4")]
    words = ["tag", *names, "--save_dir=out", f"--format={file_format}", "--infer_topk=1"]
    assert main([*words, "--report=r.html", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [result["video_id"] for result in printed] == names
    text = Path(f"out/predictions.{file_format}").read_text(encoding="utf-8")
    if file_format == "csv":
        assert [row["video_id"] for row in csv.DictReader(io.StringIO(text))] == [r"bad\udcff.mp4", "b.mp4"]
    else:
        results = json.loads(text) if file_format == "json" else list(map(json.loads, text.splitlines()))
        assert [result["video_id"] for result in results] == names
    page = Path("r.html").read_text(encoding="utf-8")
    assert r"bad\udcff.mp4" in page
    assert page.count("data:image/jpeg;base64,") == 16, "both videos have their thumbnails"


def test_report_reads_what_tag_printed_of_a_name_that_is_not_unicode(work_dir):
    make_video(BAD_NAME)
    done = videotag("tag", BAD_NAME, "--json", "--infer_topk=1")
    assert done.returncode == 0, done.stderr
    Path("p.json").write_bytes(done.stdout)
    assert main(["report", "p.json", "--out=r.html"]) == 0
    assert Path("r.html").read_text(encoding="utf-8").count("data:image/jpeg;base64,") == 8


def test_a_stdout_that_cannot_show_a_name_escapes_it(work_dir):
    Path("dir ünï").mkdir()
    make_video("dir ünï/😀.mp4")
    done = videotag("tag", "dir ünï", "--infer_topk=1", encoding="ascii")
    assert done.returncode == 0
    note, runtime = done.stderr.splitlines()
    assert note.startswith(b"tags are ImageNet's 1,000 classes")
    assert b" runs in " in runtime
    assert done.stdout.startswith(rb"dir \u00fcn\u00ef/\ud83d\ude00.mp4")
    done = videotag("tag", "dir ünï", "--infer_topk=1", "--json", encoding="ascii")
    assert json.loads(done.stdout)[0]["video_id"] == "dir ünï/😀.mp4"


# ---------------------------------------------------------------- disk, memory, signals


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
@pytest.mark.parametrize("words", [["models"], ["tag", "a.mp4"]])
def test_a_full_disk_under_stdout_is_one_line(work_dir, words):
    make_video("a.mp4")
    with Path("/dev/full").open("wb") as full:
        done = videotag(*words, stdout=full)
    assert done.returncode == 2
    message = (
        "standard output: cannot write (No space left on device); free space there, or redirect it elsewhere"
    )
    *before, last = done.stderr.decode().splitlines()
    assert last == f"videotag {words[0]}: {message}"
    assert all(" runs in " in line or "ImageNet's 1,000" in line for line in before), "what runs, at most"


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (MemoryError(), ""),
        (
            MemoryError("C++ Traceback\n(ResourceExhausted) Fail to alloc"),
            " (ResourceExhausted) Fail to alloc)",
        ),
        (RuntimeError("ResourceExhaustedError: Out of memory"), " (ResourceExhaustedError: Out of memory)"),
    ],
)
def test_want_of_memory_names_what_to_lower(monkeypatch, capsys, error, detail):
    def run(_):
        raise error

    monkeypatch.setattr(doctor, "run", run)
    assert main(["doctor"]) == 2
    message = f"videotag doctor: not enough memory; lower batch_size, or the sizes in MODEL{detail}\n"
    assert capsys.readouterr().err == message


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_a_limit_on_memory_is_one_line(work_dir):
    """Too little to load Paddle; where the C library itself gives up, nothing can be said."""
    limit = 500 << 20
    done = subprocess.run(
        [sys.executable, "-m", "videotag", "models"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("videotag models: not enough memory; lower batch_size")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("Exception from src/core: std::bad_alloc"), True),
        (ImportError("libpaddle.so: failed to map segment from shared object"), True),
        (RuntimeError("can't start new thread"), True),
        (ConfigError("a.yaml: bad_alloc: unknown key"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
    ],
)
def test_a_want_of_memory_is_known_whatever_library_says_so(error, lacks):
    assert lacks_memory(error) is lacks


def test_sigterm_ends_a_command_and_leaves_the_programs_handling_as_it_was(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "run", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["doctor"]) == 143
    assert capsys.readouterr().err == "videotag doctor: terminated\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_program_that_handles_sigterm_itself_goes_on_doing_so(monkeypatch):
    seen = []
    monkeypatch.setattr(doctor, "run", lambda _: os.kill(os.getpid(), signal.SIGTERM) or 0)
    signal.signal(signal.SIGTERM, lambda *_: seen.append(True))
    try:
        assert main(["doctor"]) == 0
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert seen == [True]


def test_importing_paddle_leaves_sigterm_to_python():
    code = (
        "import os, signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7));"
        "import videotag.system.quiet_paddle; os.kill(os.getpid(), signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")


# ---------------------------------------------------------------- flags


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["tag", "-dash.mp4"],
            "tag: the following arguments are required: PATH; a path that begins with a dash",
        ),
        (
            ["tag", "a.mp4", "-dash.mp4"],
            "tag: unrecognized arguments: -dash.mp4; a path that begins with a dash",
        ),
        (["tag", "-home.mp4"], "tag: argument -h/--help: ignored explicit argument 'ome.mp4'; a path that"),
        (["train", "--nonsense"], "train: unrecognized arguments: --nonsense; see videotag train --help"),
        (["train", "--epochs=3"], "train: unrecognized arguments: --epochs=3; did you mean --epoch?; see"),
        (["train", "-epoch=3"], "train: unrecognized arguments: -epoch=3; did you mean --epoch?; see"),
        (["unheard-of", "--versions"], "argument COMMAND: invalid choice: 'unheard-of'"),
        (
            ["tag", "a.mp4", "--quiet", "--json"],
            "tag: --quiet and --json: one prints nothing, the other JSON;",
        ),
        (
            ["tag", "a.mp4", "--format=csv"],
            "tag: --format=csv: has no effect without --save_dir; give it, or --json",
        ),
        (["tag", "a.mp4", "--save_dir=a.mp4"], "tag: a.mp4: cannot write"),
        (["tag", "a.mp4", "--report=a.mp4/r.html"], "tag: a.mp4: cannot write"),
        (["tag", "a.mp4", "--report=."], "tag: --report .: a folder, expected a file such as report.html"),
    ],
)
def test_a_mistaken_flag_is_named_before_any_work(work_dir, monkeypatch, capsys, words, line):
    from videotag.inference.tagger import Tagger

    make_video("a.mp4")
    monkeypatch.setattr(Tagger, "load", None)  # calling it would be a bug
    assert main(words) == 2
    err = capsys.readouterr().err
    assert line in err
    assert len(err.splitlines()) == 1


def test_a_path_behind_two_dashes_may_begin_with_one(work_dir):
    make_video("-dash.mp4")
    assert main(["tag", "--infer_topk=1", "--", "-dash.mp4"]) == 0
