"""--backend and --precision of predict, extract, eval and tag."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.inference.tagger import Tagger
from videotag.media.writer import write_video
from videotag.runtime.backends import Backend


def predicted(*flags):
    """Probabilities (videos, classes), which the table gives best first."""
    assert main(["predict", "--weights=ck", "--save_dir=out", "--infer_topk=4", *flags]) == 0
    videos = json.loads(Path("out/predictions.json").read_text(encoding="utf-8"))
    rows = np.zeros((len(videos), 4))
    for row, video in zip(rows, videos, strict=True):
        for tag in video["tags"]:
            row[tag["class_id"]] = tag["probability"]
    return rows


def test_predict_says_the_same_in_every_backend(trained, capsys):
    expected = predicted("--backend=paddle", "--precision=f32")
    assert "AttentionLSTM runs in paddle " in capsys.readouterr().err
    for backend in ("openvino", "onnx"):
        found = predicted(f"--backend={backend}", "--precision=f32")
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert f"AttentionLSTM runs in {backend} " in capsys.readouterr().err
    np.testing.assert_allclose(predicted("--backend=auto", "--precision=auto"), expected, atol=1e-3)


def test_eval_measures_the_same_in_every_backend(trained, capsys):
    def measured(*flags):
        assert main(["eval", "--weights=ck", "--save_dir=ev", "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    expected = measured("--backend=paddle")
    for backend in ("openvino", "onnx"):
        assert measured(f"--backend={backend}") == pytest.approx(expected, abs=1e-5)
    assert measured("--backend=auto", "--precision=f32") == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("command", ["predict", "eval"])
def test_a_wish_that_cannot_be_had_ends_before_work(trained, capsys, monkeypatch, command):
    assert main([command, "--weights=ck", "--backend=onnx", "--precision=bf16", "--save_dir=no"]) == 2
    assert not any(Path("no").glob("*.json"))
    real = Backend.version
    monkeypatch.setattr(Backend, "version", lambda its: None if its.name == "openvino" else real(its))
    capsys.readouterr()
    assert main([command, "--weights=ck", "--backend=openvino", "--save_dir=no"]) == 2
    assert "run: pip install 'videotag[openvino]'" in capsys.readouterr().err


def test_the_embedded_default_works_without_the_extras(work_dir, capsys, monkeypatch):
    real = Backend.version
    monkeypatch.setattr(Backend, "version", lambda its: real(its) if its.name == "paddle" else None)
    frames = np.random.default_rng(0).integers(0, 255, (8, 64, 80, 3), dtype=np.uint8)
    write_video("a.mp4", frames, fps=8)
    assert main(["tag", "a.mp4", "--seg_num=4", "--json"]) == 0
    done = capsys.readouterr()
    assert len(json.loads(done.out)[0]["tags"]) == 5
    assert "efficientnet_lite0 runs in paddle " in done.err


def test_both_stages_of_a_tagger_take_its_backend(tmp_path, work_dir):
    tagger = Tagger.load(backend="onnx", precision="f32", overrides=[("INFER.seg_num", 4)])
    write_video("a.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 8, fps=8)
    expected = Tagger.load(backend="paddle", precision="f32", overrides=[("INFER.seg_num", 4)]).tag("a.mp4")
    found = tagger.tag("a.mp4")
    assert [t.class_id for t in found.tags] == [t.class_id for t in expected.tags]
    np.testing.assert_allclose(
        [t.probability for t in found.tags], [t.probability for t in expected.tags], atol=1e-5
    )
