"""No command opens a connection or looks a name up, and no runtime writes into the home folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from network_watch import NetworkWatch

from videotag.config import load_config
from videotag.media.writer import write_video
from videotag.models import load_models
from videotag.training.checkpoint import save_weights

ROOT = Path(__file__).resolve().parents[2]
TSN_YAML = """
MODEL: {name: TSN, num_layers: 18, num_classes: 3, topk: 2}
INFER: {seg_num: 3, short_size: 40, target_size: 32, backend: paddle, precision: f32}
"""
TAGGER_YAML = """
MODEL: {name: MeanPool, feature_names: [rgb], feature_dims: [512], num_classes: 2, topk: 2}
TRAIN: {epoch: 1, batch_size: 2, filelist: features/videos.list, use_gpu: false}
VALID: {batch_size: 2, filelist: features/videos.list}
TEST: {batch_size: 2, filelist: features/videos.list}
INFER: {batch_size: 2, backend: paddle, precision: f32}
"""
#: Tags a video by exports for both runtimes, and keeps them open until its input ends.
HOLDER = """
import sys
from videotag import Tagger

tagger = Tagger.load(extractor_weights="tsn/export_openvino_f32", predictor_weights="ck/export_onnx_f32")
print(len(tagger.tag("a.mp4").tags), flush=True)
sys.stdin.read()
"""
#: Settings of VisualDL, the same on every machine; made where --visualdl is given.
VISUALDL_FILE = ".visualdl/conf/config.json"
#: A name look-up by the C library, without Python's own socket module, in a child of the watched process.
LOOK_UP = """
import subprocess, sys
code = '''
import ctypes
ctypes.CDLL(None).getaddrinfo(b"videotag.invalid", b"80", None, ctypes.byref(ctypes.c_void_p()))
'''
sys.exit(subprocess.run([sys.executable, "-c", code]).returncode)
"""


@pytest.fixture
def watch():
    with NetworkWatch() as watch:
        yield watch


@pytest.fixture
def home(work_dir):
    path = work_dir / "home"
    path.mkdir()
    return path


def environment(home, **more):
    """Of a user who has set nothing; runtimes behave otherwise where they see that they are tested."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    kept |= {"HOME": str(home), "VIDEOTAG_CACHE": str(home.parent / "cache"), "PYTHONPATH": str(ROOT)}
    return kept | {"MPLCONFIGDIR": str(home.parent / "matplotlib")} | more


def written(home):
    """The files in it but VisualDL's; Paddle makes folders below .cache/paddle, which stay empty."""
    files = {str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()}
    return sorted(files - {VISUALDL_FILE})


def test_the_watch_sees_a_look_up_of_compiled_code_in_a_child(watch, home):
    done = watch.run([sys.executable, "-c", LOOK_UP], env=environment(home))
    assert done.returncode == 0, done.stderr
    assert any("AF_INET" in attempt and "videotag.invalid" in attempt for attempt in watch.attempts)


def test_the_watch_leaves_local_sockets_alone(watch, home):
    code = (
        "import socket; server = socket.socket(socket.AF_UNIX); server.bind('local'); server.listen();"
        "socket.socket(socket.AF_UNIX).connect('local')"
    )
    done = watch.run([sys.executable, "-c", code], env=environment(home), cwd=home.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert watch.attempts == []


@pytest.mark.parametrize("telemetry", ["installed", "absent"])
def test_the_runtimes_are_imported_without_a_look_up_or_an_id(telemetry, watch, home):
    """Also where the package openvino_telemetry is not installed."""
    code = (
        "import sys, videotag.system.quiet_runtimes as quiet;"
        f"{'''sys.modules['openvino_telemetry'] = None;''' if telemetry == 'absent' else ''}"
        "quiet.import_openvino().Core(); quiet.import_onnxruntime().SessionOptions();"
        "assert not any(m and n.startswith('openvino_telemetry') for n, m in sys.modules.items())"
    )
    done = watch.run([sys.executable, "-c", code], env=environment(home, ORT_DISABLE_TELEMETRY="0"))
    assert done.returncode == 0, done.stderr
    assert watch.attempts == []
    assert written(home) == []


def make_inputs():
    """Two videos with labels, a TSN in tsn, and the config of a tagger."""
    rng = np.random.default_rng(0)
    for name in ("a.mp4", "b.mp4"):
        write_video(name, rng.integers(0, 255, (6, 48, 64, 3), dtype=np.uint8), fps=8)
    Path("videos.list").write_text("a.mp4 0\nb.mp4 1\n", encoding="utf-8")
    Path("tagger.yaml").write_text(TAGGER_YAML, encoding="utf-8")
    Path("labels.txt").write_text("cat\ndog\n", encoding="utf-8")
    load_models()
    Path("tsn").mkdir()
    Path("tsn/config.yaml").write_text(TSN_YAML, encoding="utf-8")
    config = load_config(Path("tsn/config.yaml"))
    save_weights(config.entry.cls(config.model), Path("tsn/TSN.pdparams"))
    Path("tsn/labels.txt").write_text("one\ntwo\nthree\n", encoding="utf-8")


@pytest.mark.slow
def test_no_command_asks_for_a_host_or_writes_into_the_home_folder(watch, home):
    make_inputs()
    env = environment(home)

    def videotag(*words):
        done = watch.run([sys.executable, "-m", "videotag", *words], env=env)
        assert done.returncode == 0, done.stderr
        assert watch.attempts == [], words
        assert written(home) == [], words

    videotag("extract", "--weights=tsn", "--filelist=videos.list", "--save_dir=features")
    words = ("--config=tagger.yaml", "--label_file=labels.txt", "--save_dir=ck", "--visualdl=scalars")
    videotag("train", *words)
    for backend in ("openvino", "onnx"):
        for weights in ("tsn", "ck"):
            videotag("export", f"--weights={weights}", f"--to={backend}")
    # A session tells of itself only after some seconds: these stay open during all that follows.
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with watch.start([sys.executable, "-c", HOLDER], env=env, **pipes) as holder:
        assert holder.stdout.readline() == "2\n"
        for export in ("", "/export_openvino_f32", "/export_onnx_f32"):
            both = (f"--extractor_weights=tsn{export}", f"--predictor_weights=ck{export}")
            videotag("tag", "a.mp4", *both, "--report=tags.html")
            videotag("predict", f"--weights=ck{export}", "--filelist=features/videos.list")
            videotag("extract", f"--weights=tsn{export}", "--filelist=videos.list", f"--save_dir=f{export}")
        videotag("eval", "--weights=ck", "--config=tagger.yaml", "--report=eval.html", "--video_root=.")
        videotag("doctor")
        assert holder.poll() is None
        _, errors = holder.communicate("")
    assert holder.returncode == 0, errors
    assert watch.attempts == []
    assert written(home) == []
