"""The doctor where all is well, and where things are broken for real."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from videotag.cli import doctor
from videotag.cli.main import main
from videotag.system.cores import MKL_VARIABLES

REQUIRED = {"Python", "videotag", "paddlepaddle", "numpy", "av", "CPU cores", "GPUs", "backend paddle",
            "telemetry", "video files", "weights efficientnet_lite0_imagenet", "cache folder"}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOTAG_CACHE", str(tmp_path / "cache"))


def examine(capsys):
    """Exit code and the findings by name."""
    code = main(["doctor", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["healthy"] == (code == 0)
    return code, {finding["name"]: finding for finding in answer["checks"]}


def put_module(folder, name, text, monkeypatch):
    """A module that goes before the installed one."""
    (folder / "broken").mkdir(exist_ok=True)
    (folder / "broken" / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder / "broken"))


def test_where_all_is_well_it_says_so_and_leaves_nothing_behind(work_dir, capsys):
    code, findings = examine(capsys)
    assert code == 0
    assert findings.keys() >= REQUIRED
    assert all(findings[name]["works"] for name in REQUIRED)
    assert findings["paddlepaddle"]["detail"] == importlib.metadata.version("paddlepaddle")
    assert "on cpu" in findings["backend paddle"]["detail"]
    assert findings["telemetry"]["detail"].startswith("nothing is sent; off in openvino ")
    assert "8 frames" in findings["video files"]["detail"]
    assert list(work_dir.iterdir()) == []


def test_broken_parts_are_told_apart_and_stop_nothing(work_dir, capsys, monkeypatch):
    """Paddle dies of an illegal instruction, PyAV lacks a library, the cache is a file, the list no YAML."""
    put_module(work_dir, "paddle", "import os, signal; os.kill(os.getpid(), signal.SIGILL)", monkeypatch)
    put_module(work_dir, "av", "raise ImportError('libavcodec.so.62: cannot open')", monkeypatch)
    Path("file").write_bytes(b"")
    monkeypatch.setenv("VIDEOTAG_CACHE", "file")
    Path("weights").mkdir()
    Path("weights/models.yaml").write_text("{", encoding="utf-8")
    code, findings = examine(capsys)
    assert code == 1
    failed = {name: f for name, f in findings.items() if f["needed"] and not f["works"]}
    assert failed.keys() == {
        "GPUs",
        "backend paddle",
        "backend auto selects",
        "video files",
        "named weights",
        "cache folder",
    }
    assert "killed by SIGILL" in failed["backend paddle"]["detail"]
    assert "pip install --force-reinstall 'paddlepaddle" in failed["backend paddle"]["remedy"]
    assert "libavcodec.so.62" in failed["video files"]["detail"]
    assert "pip install --force-reinstall 'av" in failed["video files"]["remedy"]
    assert "weights/models.yaml: not a YAML file" in failed["named weights"]["detail"]
    assert "Not a directory" in failed["cache folder"]["detail"]
    assert "VIDEOTAG_CACHE" in failed["cache folder"]["remedy"]


@pytest.fixture
def no_probes(monkeypatch):
    """Leaves the processes out, which take seconds."""
    monkeypatch.setattr(doctor, "_apart", lambda probe, *texts: "left out")


def test_every_line_of_something_missing_ends_with_its_remedy(no_probes, work_dir, capsys, monkeypatch):
    requirements = [
        "no-such-package<3,>=1",
        "numpy",
        "no-such-extra>=2; extra == 'demo'",
        "x; extra == 'dev'",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: requirements)
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    by_name = {line.split()[1]: line for line in lines}
    assert by_name["no-such-package"].startswith("FAILED ")
    assert by_name["no-such-package"].endswith("not installed; pip install 'no-such-package<3,>=1'")
    assert by_name["no-such-extra"].startswith("missing ")
    assert by_name["no-such-extra"].endswith("not installed; pip install 'videotag[demo]'")
    assert "x" not in by_name
    assert any(line.endswith("not downloaded; videotag download videotag_tsn") for line in lines)
    assert lines[-1] == "some needed parts do not work, see FAILED above"


def test_the_gpu_build_stands_for_paddle(no_probes, work_dir, capsys, monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "paddlepaddle":
            raise importlib.metadata.PackageNotFoundError(name)
        return "3.3.0" if name == "paddlepaddle-gpu" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert examine(capsys)[1]["paddlepaddle"]["detail"] == "3.3.0"


def test_a_checkout_that_is_not_installed_works(no_probes, work_dir, capsys, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    monkeypatch.setattr(importlib.metadata, "version", missing)
    code, findings = examine(capsys)
    assert code == 0
    assert findings["videotag as a package"]["remedy"] == "pip install -e ."


def test_too_little_space_is_a_failure(no_probes, work_dir, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_MIN_FREE_BYTES", 1 << 80)
    code, findings = examine(capsys)
    assert code == 1
    assert "free, expected" in findings["cache folder"]["detail"]
    assert not findings["working folder"]["works"]


def test_a_working_folder_that_is_gone_is_reported(no_probes, tmp_path, capsys, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert examine(capsys)[1]["working folder"]["works"] is False


def test_a_probe_that_hangs_is_given_up(work_dir, monkeypatch):
    put_module(work_dir, "paddle", "import threading; threading.Event().wait(60)", monkeypatch)
    monkeypatch.setattr(doctor, "_PROBE_TIMEOUT_SEC", 0.2)
    with pytest.raises(RuntimeError, match=r"no answer within 0.2 s"):
        doctor._apart("probe_gpus")


def test_a_probe_is_not_misled_by_the_working_folder(work_dir):
    Path("av.py").write_text("raise ImportError('mine')", encoding="utf-8")
    assert "8 frames" in doctor._apart("probe_video")


def test_wrong_answers_of_the_backends_are_noticed(work_dir, monkeypatch):
    import numpy as np

    from videotag.media import video
    from videotag.runtime import paddle_backend

    class Wrong(paddle_backend.PaddleNetwork):
        def __call__(self, inputs):
            return {name: x + 1 for name, x in super().__call__(inputs).items()}

    monkeypatch.setattr(paddle_backend, "PaddleNetwork", Wrong)
    with pytest.raises(ArithmeticError, match="differ from those of its layers"):
        doctor.probe_backend("paddle")
    black = video.SampledFrame(image=np.zeros((64, 64, 3), np.uint8), repeats=1, time_sec=0.0)
    monkeypatch.setattr(video, "FrameReader", lambda path, count: [black] * count)
    with pytest.raises(ArithmeticError, match="decoded frames of brightness"):
        doctor.probe_video()


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_telemetry_that_is_on_is_told(name, work_dir, monkeypatch):
    """A runtime that found another way: it writes an id."""
    text = "import pathlib; (pathlib.Path.home() / 'id').touch(); disable_telemetry_events = int"
    put_module(work_dir, name, text, monkeypatch)
    (check,) = [check for check in doctor._backends() if check.name == "telemetry"]
    finding = doctor._finding(check)
    assert not finding["works"]
    assert "written to the home folder: ['id']" in finding["detail"]
    assert finding["remedy"] == "pip uninstall openvino-telemetry; export ORT_DISABLE_TELEMETRY=1"


def test_runtimes_that_are_not_installed_send_nothing(work_dir, monkeypatch):
    for name in ("openvino", "onnxruntime"):
        put_module(work_dir, name, "raise ModuleNotFoundError", monkeypatch)
    assert doctor._apart("probe_telemetry") == "nothing is sent"


def test_threads_that_are_no_number_are_told(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    (check,) = [check for check in doctor._machine() if check.name == "CPU cores"]
    finding = doctor._finding(check)
    assert not finding["works"]
    assert "OMP_NUM_THREADS=0: expected a whole number from 1" in finding["detail"]
    assert finding["remedy"] == "unset OMP_NUM_THREADS"


@pytest.mark.parametrize(
    ("told", "mode", "best", "hint"),
    [
        ("5", "", "7", True),
        ("7", "", "7", False),
        ("", "COMPATIBLE", "7", True),
        ("7", "COMPATIBLE", "7", True),
        ("5", "", None, False),
    ],
)
def test_a_slower_choice_of_mkls_instructions_is_pointed_out(monkeypatch, told, mode, best, hint):
    for name, value in zip(MKL_VARIABLES, (told, mode, ""), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(doctor, "mkl_cpu_type", lambda: best)
    said = doctor._cores()
    assert said.endswith("; unset them, and videotag sets MKL_DEBUG_CPU_TYPE=7, which is faster here") == hint
