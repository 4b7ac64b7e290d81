"""Commands never replace inputs, nor unasked what they have not made; over their own outputs they go on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.formats.predictions import HEADS
from videotag.media.writer import write_video
from videotag.system import progress

TAG = ["tag", "a.mp4", "--seg_num=2", "--quiet", "--precision=f32"]
NAME = "AttentionLSTM"


@pytest.fixture
def videos(work_dir):
    for seed, name in enumerate(("a.mp4", "b.mp4")):
        frames = np.random.default_rng(seed).integers(0, 255, (4, 64, 80, 3), dtype=np.uint8)
        write_video(name, frames, fps=8)
    return work_dir


def refused(capsys, words):
    """What a refused command says; nothing on the disk is another than before."""
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()} == before
    return err


def write(path, text="mine\n"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- tag and report


def test_tag_never_writes_its_page_over_a_video(videos, capsys):
    err = refused(capsys, [*TAG, "--report=b.mp4"])
    assert "b.mp4: exists and was not written by videotag; give another --report, or --overwrite" in err
    for words in ([], ["--overwrite"]):
        err = refused(capsys, [*TAG, "--report=a.mp4", *words])
        assert "a.mp4: is an input itself; give another --report" in err


def test_tag_writes_over_its_own_results_and_over_others_if_told(videos, capsys):
    words = [*TAG, "--report=r.html", "--save_dir=out"]
    assert main(words) == 0
    assert main(words) == 0, "its own"
    write("out/predictions.json", '[{"video_id": 7, "caption": "mine"}]')
    write("r.html", "<!doctype html><html>mine</html>")
    capsys.readouterr()
    err = refused(capsys, words).splitlines()
    assert "out/predictions.json: exists and was not written by videotag; give another --save_dir" in err[0]
    assert err[1].startswith("r.html: exists and was not written by videotag; give another --report")
    assert main([*words, "--overwrite"]) == 0
    assert main(words) == 0


def test_quiet_tagging_shows_progress_on_stderr(videos, capsys, monkeypatch):
    monkeypatch.setattr(progress, "HEARTBEAT_SEC", 0.001)
    assert main(["tag", "b.mp4", *TAG[1:], "--save_dir=out"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "tag: 0 of 2" in err


def test_tag_does_not_write_two_results_into_one_file(videos, capsys):
    err = refused(capsys, [*TAG, "--save_dir=.", "--report=predictions.json"])
    assert "predictions.json: --save_dir and --report write the same file; give another --report" in err


@pytest.mark.parametrize("name", ["jsonl", "csv"])
def test_tag_knows_its_own_file_of_every_format(videos, capsys, name):
    words = [*TAG, "--save_dir=out", f"--format={name}"]
    assert main(words) == 0
    assert main(words) == 0
    capsys.readouterr()
    write(f"out/predictions.{name}")
    refused(capsys, words)


def test_report_never_replaces_its_predictions(videos, capsys):
    assert main([*TAG, "--save_dir=out"]) == 0
    shutil.copy("out/predictions.json", "p.json")
    os.link("p.json", "linked.html")
    capsys.readouterr()
    for words in ([], ["--overwrite"]):
        assert "p.json: is an input itself" in refused(capsys, ["report", "p.json", "--out=p.json", *words])
        err = refused(capsys, ["report", "p.json", "--out", "linked.html", *words])
        assert "linked.html: is the same file as the input p.json; give another --out" in err
        assert "a.mp4: is an input itself" in refused(capsys, ["report", "p.json", "--out=a.mp4", *words])
    assert "was not written by videotag" in refused(capsys, ["report", "p.json", "--out=b.mp4"])
    assert main(["report", "p.json", "--out=r.html"]) == 0
    assert main(["report", "p.json", "--out=r.html"]) == 0
    assert main(["report", "p.json", "--out=b.mp4", "--overwrite"]) == 0
    assert Path("b.mp4").read_text(encoding="utf-8").startswith("<!doctype html>")


# ---------------------------------------------------------------- predict and eval


def test_predict_never_replaces_its_list_or_a_file_of_another_program(trained, capsys):
    words = ["predict", "--weights=ck", "--save_dir=pr"]
    write("pr/predictions.json", Path("features/test.list").read_text(encoding="utf-8"))
    for more in ([], ["--overwrite"]):
        err = refused(capsys, [*words, "--filelist=pr/predictions.json", *more])
        assert "pr/predictions.json: is an input itself; give another --save_dir" in err
    err = refused(capsys, words)
    assert "pr/predictions.json: exists and was not written by videotag; give another --save_dir, or" in err
    assert main([*words, "--overwrite"]) == 0
    for name in ("json", "jsonl", "csv", "kaggle"):
        assert main([*words, f"--format={name}"]) == 0
        assert main([*words, f"--format={name}"]) == 0
    assert main([*words, "--threshold=1"]) == 0
    assert main([*words, "--threshold=1"]) == 0, "without tags, too"


def test_heads_of_predictions_tell_them_from_other_json():
    one = {"video_id": 'a "b".mp4', "tags": []}
    for text in (json.dumps([one]), json.dumps([one], indent=2), "[\n]\n"):
        assert HEADS["json"].match(text)
    for text in ('[{"video_id": "a", "caption": "x"}]', '[{"video_id": 1, "tags": []}]', "[] and more", "{}"):
        assert not HEADS["json"].match(text)


def test_eval_never_replaces_inputs_or_files_of_another_program(trained, capsys):
    pytest.importorskip("matplotlib")
    words = ["eval", "--weights=ck", "--save_dir=ev", "--report=e.html"]
    write("ev/metrics.json", '{"accuracy": 1}')
    write("ev/per_class.csv", "class,f1\n")
    write("e.html", "mine")
    err = refused(capsys, words)
    for path in ("ev/metrics.json", "ev/per_class.csv", "e.html"):
        assert f"{path}: exists and was not written by videotag; give another --" in err
    assert main([*words, "--overwrite"]) == 0
    assert main(words) == 0
    capsys.readouterr()
    words = ["eval", "--weights=ck", "--save_dir=ev", "--overwrite"]
    for path in ("features/test.list", "features/test0.npy", "ck/AttentionLSTM_best.pdparams"):
        weights = "--weights=ck/AttentionLSTM_best"
        assert "input" in refused(capsys, [*words, weights, f"--report={path}"])
    write("ev/metrics.json", Path("features/test.list").read_text(encoding="utf-8"))
    err = refused(capsys, [*words, "--filelist=ev/metrics.json"])
    assert "ev/metrics.json: is an input itself; give another --save_dir" in err


# ---------------------------------------------------------------- what is read without being named


@pytest.fixture
def implicit(trained, videos, capsys):
    """Files that commands read although no flag names them: beside weights, in an export, by a config."""
    assert main(["export", "--weights=ck", "--to=onnx", "--output=ex"]) == 0
    text = Path("tagger.yaml").read_text(encoding="utf-8")
    Path("named.yaml").write_text(
        text.replace("MODEL:", "MODEL:\n  label_file: labels.txt"), encoding="utf-8"
    )
    capsys.readouterr()
    return [
        "ck/config.yaml",
        "ck/labels.txt",
        "ex/config.yaml",
        "ex/labels.txt",
        "ex/network.onnx",
        "ex/export.json",
    ]


def test_eval_and_predict_never_replace_what_lies_beside_weights(implicit, capsys):
    shutil.copy("labels.txt", "label_3396.txt")
    for path in implicit:
        words = [f"--weights={path[:2]}", "--overwrite", "--filelist=features/test.list"]
        err = refused(capsys, ["eval", *words, "--save_dir=ev", f"--report={path}"])
        assert f"{path}: is an input itself; give another --report" in err
        Path(f"{path[:2]}-out").mkdir(exist_ok=True)
        os.link(path, f"{path[:2]}-out/predictions.json")
        err = refused(capsys, ["predict", *words, f"--save_dir={path[:2]}-out"])
        assert f"is the same file as the input {path}; give another --save_dir" in err
        Path(f"{path[:2]}-out/predictions.json").unlink()
    words = ["eval", "--weights=ck/AttentionLSTM_best", "--config=named.yaml", "--overwrite"]
    for path in ("named.yaml", "labels.txt", "label_3396.txt", "ck/train_log.jsonl"):
        assert f"{path}: is an input itself" in refused(capsys, [*words, f"--report={path}"])


def test_tag_never_replaces_what_lies_beside_weights(implicit, capsys):
    for path in implicit:
        for flag in ("--weights", "--predictor_weights"):
            words = [f"{flag}={path[:2]}", "--overwrite", f"--report={path}"]
            assert f"{path}: is an input itself; give another --report" in refused(capsys, [*TAG, *words])
    words = ["--predictor_weights=ck", "--predictor_config=named.yaml", "--overwrite"]
    for path in ("named.yaml", "labels.txt", "ck/AttentionLSTM_best.pdparams"):
        assert f"{path}: is an input itself" in refused(capsys, [*TAG, *words, f"--report={path}"])


def test_eval_never_replaces_videos_that_its_report_shows(implicit, capsys):
    Path("vr/test0.mp4").parent.mkdir()
    shutil.copy("a.mp4", "vr/test0.mp4")
    Path("linked").symlink_to("vr")
    words = ["eval", "--weights=ck", "--save_dir=ev", "--overwrite", "--video_root=vr"]
    for path in ("vr/test0.mp4", "linked/test0.mp4"):
        err = refused(capsys, [*words, f"--report={path}"])
        assert f"{path}: is an input itself; give another --report" in err
    for _ in range(2):
        assert main([*words, "--report=vr/page.html"]) == 0, "a page may lie among the videos"


# ---------------------------------------------------------------- train


@pytest.mark.parametrize("name", ["config.yaml", "labels.txt", f"{NAME}.pdparams", f"{NAME}_best.pdparams"])
def test_train_refuses_a_folder_whose_files_are_of_no_run(tagger_dir, capsys, name):
    write(f"ck/{name}")
    err = refused(capsys, ["train", "--config=tagger.yaml", "--save_dir=ck"])
    assert f"ck/{name}: exists, but no training wrote it; move it away, or choose another" in err


def test_train_never_replaces_its_config_or_its_labels(tagger_dir, capsys):
    Path("ck").mkdir()
    shutil.copy("tagger.yaml", "ck/config.yaml")
    shutil.copy("labels.txt", "ck/labels.txt")
    words = ["train", "--config=ck/config.yaml", "--label_file=ck/labels.txt", "--save_dir=ck"]
    assert len(refused(capsys, words).splitlines()) == 2


def test_train_goes_on_in_folders_of_its_own(trained, capsys):
    words = ["train", "--save_dir=ck", "--epoch=1"]
    assert main([*words, "--config=ck/config.yaml", "--label_file=ck/labels.txt"]) == 0
    assert Path("ck/earlier-1/config.yaml").is_file()
    assert main(["train", "--save_dir=ck", "--epoch=2", "--resume"]) == 0
    for path in Path("ck").glob(f"{NAME}_epoch*"):
        path.unlink()
    capsys.readouterr()
    err = refused(capsys, [*words, "--config=tagger.yaml"])
    assert f"ck/{NAME}.pdparams: exists, but no training wrote it" in err, "the last weights of all"


def test_a_run_killed_before_its_first_step_goes_on(tagger_dir, monkeypatch):
    from videotag.training import train

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    words = ["train", "--config=tagger.yaml", "--save_dir=ck", "--label_file=labels.txt", "--epoch=1"]
    for name in ("write_config_and_labels", "RunLog"):
        with monkeypatch.context() as patch:
            patch.setattr(train, name, interrupt)
            assert main(words) == 130
    assert main([*words, "--resume"]) == 0
    assert main(words) == 0


def test_train_does_not_remove_failures_of_somebody_else(tagger_dir, capsys):
    write("ck/failures.jsonl")
    err = refused(capsys, ["train", "--config=tagger.yaml", "--save_dir=ck"])
    assert "ck/failures.jsonl: exists and was not written by videotag; give another --save_dir" in err
    assert "--overwrite" not in err


# ---------------------------------------------------------------- export, make-clips


def test_export_never_replaces_a_folder_that_holds_its_inputs(trained, capsys):
    words = ["export", "--weights=ck", "--to=paddle", "--output=ex"]
    assert main(words) == 0
    assert main(words) == 0
    capsys.readouterr()
    err = refused(capsys, [*words, "--label_file=ex/labels.txt"])
    assert "ex/labels.txt: is an input itself; choose another --output" in err
    write("ex/mine.txt")
    assert "an older export that also holds mine.txt" in refused(capsys, words)
    assert "ck: exists and is not an export" in refused(
        capsys, ["export", "--weights=ck", "--to=paddle", "--output=ck"]
    )


@pytest.mark.parametrize("name", ["labels.txt", "train.list", "test.list"])
def test_make_clips_refuses_a_folder_whose_files_are_of_no_set(work_dir, capsys, name):
    write(f"clips/{name}")
    err = refused(capsys, ["make-clips", "clips", "--num_clips=2"])
    assert f"clips/{name}: exists although clips/clips.json is missing; choose another folder" in err
