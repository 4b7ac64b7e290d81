"""SIGINT and SIGTERM at chosen moments of a program's life; tools/signal_sweep.py tries all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "module": ["-m", "videotag", "--version"],
    "train.py": [str(ROOT / "train.py"), "--help"],
    "eval.py": [str(ROOT / "eval.py"), "--help"],
    "predict.py": [str(ROOT / "predict.py"), "--help"],
    "tsn_extractor.py": [str(ROOT / "tsn_extractor.py"), "--help"],
    **{
        name.rpartition("/")[2]: [str(ROOT / "tools" / name), "--help"]
        for name in (
            "tf2pkl.py",
            "fuzz.py",
            "convert_weights.py",
            "average_checkpoints.py",
            "demo.py",
            "benchmark/bench.py",
        )
    },
}
ENDINGS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
#: Python runs this when it starts: an action when a module is first looked for.
HOOK = """
import os, sys

class Finder:
    def find_spec(self, name, *_):
        if name == os.environ["MOMENT"] and self in sys.meta_path:
            sys.meta_path.remove(self)
            exec(os.environ["ACTION"], {{"os": os, "sys": sys, "signal": {number}}})

sys.meta_path.insert(0, Finder())
"""
SEND = "os.kill(os.getpid(), signal)"


@pytest.fixture
def run_with_signal(tmp_path):
    """run_with_signal(words, signal, moment, action) -> the process that has ended."""

    def run(words, number, moment, action=SEND, **options):
        (tmp_path / "sitecustomize.py").write_text(HOOK.format(number=int(number)), encoding="utf-8")
        environment = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "MOMENT": moment, "ACTION": action}
        options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        return subprocess.run(
            [sys.executable, *words],
            env=os.environ | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            **options,
        )

    return run


def one_line(done, number, name="videotag"):
    code, verb = ENDINGS[number]
    assert (done.returncode, done.stderr) == (code, f"{name}: {verb}\n")


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_answers_from_its_first_import_on(run_with_signal, program):
    name = program if "tools" in PROGRAMS[program][0] else "videotag"
    number = signal.SIGTERM if len(program) % 2 else signal.SIGINT
    one_line(run_with_signal(PROGRAMS[program], number, "videotag.system.cores"), number, name)


@pytest.mark.parametrize("number", ENDINGS)
@pytest.mark.parametrize("moment", ["pathlib", "argparse", "numpy", "videotag.cli.train"])
def test_a_signal_between_any_two_imports_is_answered(run_with_signal, number, moment):
    one_line(run_with_signal(["-m", "videotag", "--version"], number, moment), number)


@pytest.mark.parametrize("number", ENDINGS)
def test_a_signal_while_the_process_ends_is_answered(run_with_signal, number):
    action = f"import atexit; atexit.register(lambda: {SEND})"
    done = run_with_signal(["-m", "videotag", "--version"], number, "argparse", action)
    one_line(done, number)
    assert done.stdout.startswith("videotag ")


@pytest.mark.parametrize(
    "action",
    [
        f"{SEND}; {SEND}",  # as `timeout` does
        # Where Python drops exceptions; and inside exec, after which Python would end by the signal itself.
        f"C = type('C', (), {{'__del__': lambda _: {SEND}}}); C()",
        # Someone insists: the second one ends what unwinds.
        f"import videotag.system.signals as s; s._DUPLICATE_SEC = 0\ntry: {SEND}\nfinally: {SEND}",
    ],
    ids=["twice", "dropped", "insists"],
)
def test_a_signal_while_a_command_works_is_one_line(run_with_signal, action):
    done = run_with_signal(["-m", "videotag", "models"], signal.SIGINT, "videotag.models", action)
    one_line(done, signal.SIGINT, "videotag models")


def test_a_forked_child_ends_by_the_signal_in_silence(run_with_signal):
    child = "child = os.fork()\nif not child: os.kill(os.getpid(), signal); os._exit(0)\n"
    action = f"{child}sys.stderr.write(str(os.waitpid(child, 0)[1]))"
    done = run_with_signal(["-m", "videotag", "--version"], signal.SIGTERM, "argparse", action)
    assert (done.returncode, done.stderr) == (0, str(int(signal.SIGTERM)))


def test_a_background_job_that_ignores_ctrl_c_goes_on_doing_so(run_with_signal):
    words = ["-m", "videotag", "--version"]
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    done = run_with_signal(words, signal.SIGINT, "argparse", **ignore)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["train.py", "program.py"])
def test_a_program_of_others_that_imports_videotag_keeps_its_handlers(tmp_path, name):
    code = """
import signal, videotag, videotag.cli.main
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.getsignal(signal.SIGTERM) == 0)
print(signal.pthread_sigmask(signal.SIG_BLOCK, set()) == set())
"""
    (tmp_path / name).write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / name)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True"] * 3


@pytest.mark.slow
def test_a_sweep_over_a_command_finds_no_other_ending(tmp_path):
    words = ["--moments=12", "--to=both", "--", sys.executable, "-m", "videotag", "make-clips", "out"]
    words += ["--num_clips=4", "--size=64", "--duration_sec=0.5", "--split=0.5,0.25,0.25"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "signal_sweep.py"), *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_cursor_of_a_terminal_is_shown_again(run_with_signal, monkeypatch):
    """Where the signal comes as a progress bar begins, which has hidden it."""
    action = "import rich; os.dup2(os.open(os.environ['TERMINAL'], os.O_WRONLY), 2)\n"
    action += f"sys.stderr.write('\\x1b[?25l'); {SEND}"
    ours, terminal = os.openpty()
    try:
        monkeypatch.setenv("TERMINAL", os.ttyname(terminal))
        done = run_with_signal(["-m", "videotag", "models"], signal.SIGINT, "videotag.models", action)
        assert done.returncode == 130
        assert os.read(ours, 1000) == b"\x1b[?25l\x1b[?25hvideotag models: interrupted\r\n"
    finally:
        os.close(ours)
        os.close(terminal)
