"""A minute of damaged files through every reader; and the harness finds what it is to find."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def fuzz(*flags, code="import fuzz; raise SystemExit(fuzz.main())"):
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, 'tools'); {code}", *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.slow
def test_no_reader_answers_a_damaged_file_with_anything_but_a_short_error(tmp_path):
    done = fuzz("--seconds=60", f"--save_dir={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].endswith(" inputs, 0 findings")
    assert int(lines[-1].split()[0].replace(",", "")) > 1000


MADE = """
import os, signal, time, fuzz, fuzz_readers, videotag.errors
fuzz.TIME_LIMIT_SEC, fuzz.SILENCE_SEC = 1, 2
def read(path):
    if b"bad" in path.read_bytes():
        {body}
fuzz_readers.READERS.clear()
def seed(path):
    path.write_bytes(b"good")
fuzz_readers.READERS["made"] = fuzz_readers.Reader(".x", read, seed, (b"bad",))
raise SystemExit(fuzz.main())
"""
SLOW_READER = """try: time.sleep(20)
        except OSError as error: raise videotag.errors.ConfigError("x: cannot be read") from error"""


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        ("raise ValueError('no')", "ValueError: 'no'"),
        ("raise videotag.errors.ConfigError('\\x1b[2J')", "an error with control characters"),
        ("raise videotag.errors.ConfigError('a\\n' * 100)", "an error of 101 lines"),
        ("os.kill(os.getpid(), 11)", "the process died (exit code -11)"),
        ("bytearray(2**33)", "MemoryError: ''"),
        (SLOW_READER, "took more than 1 s"),
        (
            "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM}); time.sleep(20)",
            "no answer within 2 s, not even to a signal",
        ),
    ],
)
def test_every_other_answer_is_a_finding_and_its_input_is_saved(tmp_path, body, finding):
    code = MADE.replace("{body}", body)
    done = fuzz("--inputs=12", f"--save_dir={tmp_path}", code=f"exec({code!r})")
    assert done.returncode == 1, done.stdout + done.stderr
    assert finding in done.stdout
    saved = list(tmp_path.iterdir())
    assert saved
    assert len(saved) == int(done.stdout.splitlines()[-1].split()[2])  # none is found twice
    assert all(b"bad" in path.read_bytes() for path in saved)


def test_inputs_that_take_a_while_are_no_finding(tmp_path):
    code = MADE.replace('if b"bad" in path.read_bytes()', "if True").replace("{body}", "time.sleep(0.5)")
    done = fuzz("--inputs=8", f"--save_dir={tmp_path}", code=f"exec({code!r})")
    assert done.stdout.splitlines()[-1] == "8 inputs, 0 findings"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_a_run_that_is_ended(tmp_path, number):
    command = [sys.executable, "tools/fuzz.py", "--seconds=60", "--readers=labels", f"--save_dir={tmp_path}"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: list(tmp_path.glob("videotag-*/input.txt")))
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text(encoding="ascii").split()
        run.send_signal(number)
        _, stderr = run.communicate(timeout=30)
    finally:
        run.kill()
    assert len(children) == 1
    until(lambda: not Path(f"/proc/{children[0]}").exists())
    if number != signal.SIGKILL:
        verb = {signal.SIGTERM: "terminated", signal.SIGINT: "interrupted"}[number]
        assert (run.returncode, stderr) == (128 + number, f"fuzz.py: {verb}\n")
        assert list(tmp_path.iterdir()) == []


def until(is_so):
    """Waits until something is so, at most 30 seconds."""
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_input_follows_from_the_seed_and_its_number_alone():
    code = """
import fuzz
from itertools import islice
first = list(islice(fuzz.contents("labels", [b"one", b"two"], 0, 0), 40))
assert list(islice(fuzz.contents("labels", [b"one", b"two"], 0, 30), 10)) == first[30:]
assert list(islice(fuzz.contents("labels", [b"one", b"two"], 1, 30), 10)) != first[30:]
"""
    done = fuzz(code=f"exec({code!r})")
    assert done.returncode == 0, done.stderr


def test_seeds_and_corpus_are_read_however_little_time_there_is():
    done = fuzz(code="import fuzz; print(fuzz.run_reader('labels', seed=0, seconds=-1, inputs=None))")
    assert done.returncode == 0, done.stderr
    num_files = len(list((ROOT / "tests/fuzz/labels").iterdir()))
    assert done.stdout == f"({1 + num_files}, [])\n"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--readers=labels,nothing", "--readers=labels,nothing: no reader nothing; there are config, yaml, "),
        ("--inputs=abc", "argument --inputs: 'abc' is not an integer of at least 1; see fuzz.py --help"),
        ("--inputs=-5", "argument --inputs: '-5' is not an integer of at least 1; see fuzz.py --help"),
        ("--seconds=nan", "argument --seconds: 'nan' is not an integer of at least 1; see fuzz.py --help"),
        ("--save_dir=README.md", "README.md: cannot write; choose another --save_dir"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(flag, message):
    done = fuzz("--readers=labels", flag)
    assert done.returncode == 2
    assert done.stderr.startswith(f"fuzz.py: {message}")
    assert done.stderr.count("\n") == 1
