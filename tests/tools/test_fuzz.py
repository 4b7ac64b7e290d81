"""A minute of damaged files through every reader; and the harness finds what it is to find."""

from __future__ import annotations

import subprocess
import sys
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


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        ("raise ValueError('no')", "ValueError: 'no'"),
        ("raise videotag.errors.ConfigError('\\x1b[2J')", "an error with control characters"),
        ("raise videotag.errors.ConfigError('a\\n' * 100)", "an error of 101 lines"),
        ("os.kill(os.getpid(), 11)", "the process died (exit code -11)"),
        ("bytearray(2**33)", "MemoryError: ''"),
    ],
)
def test_every_other_answer_is_a_finding_and_its_input_is_saved(tmp_path, body, finding):
    code = f"""
import os, fuzz, fuzz_readers, videotag.errors
def read(path):
    if b"bad" in path.read_bytes():
        {body}
fuzz_readers.READERS.clear()
def seed(path):
    path.write_bytes(b"good")
fuzz_readers.READERS["made"] = fuzz_readers.Reader(".x", read, seed, (b"bad",))
raise SystemExit(fuzz.main())
"""
    done = fuzz("--inputs=60", f"--save_dir={tmp_path}", code=f"exec({code!r})")
    assert done.returncode == 1, done.stdout + done.stderr
    assert finding in done.stdout
    saved = list(tmp_path.iterdir())
    assert saved
    assert all(b"bad" in path.read_bytes() for path in saved)


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


def test_seeds_and_corpus_are_read_however_little_time_there_is(tmp_path):
    done = fuzz("--seconds=0.01", "--readers=labels", f"--save_dir={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[1].replace(",", "")) >= 1 + len(
        list((ROOT / "tests/fuzz/labels").iterdir())
    )


def test_unknown_readers_are_named():
    done = fuzz("--readers=labels,nothing")
    assert done.returncode == 2
    assert "no reader nothing; there are config, yaml, " in done.stdout
