"""Every command as a user types it: exit codes, one line per mistake, what lies on the disk afterwards."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from videotag.cli import arguments
from videotag.cli.main import main
from videotag.formats.filelist import read_filelist
from videotag.media.writer import write_video

ROOT = Path(__file__).resolve().parents[2]
EXTRACTOR = ["--config=configs/tsn_efficientnet_lite0.yaml", "--weights=efficientnet_lite0_imagenet"]


def make_video(path, num_frames=8):
    rng = np.random.default_rng(0)
    write_video(path, rng.integers(0, 255, (num_frames, 64, 80, 3), dtype=np.uint8), fps=8)
    return str(path)


def fails(capsys, words, *, code=2):
    """Runs a command that must fail, and returns what it says on stderr: never a traceback."""
    assert main(words) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert out == ""
    return err


# ---------------------------------------------------------------- train, eval, predict


def test_train_prints_where_the_weights_lie_and_both_spellings_of_flags_work(tagger_dir, capsys):
    words = ["train", "--config", "tagger.yaml", "--save-dir=ck", "--epoch", "1", "--batch_size=5",
             "--learning_rate=0.02", "--log-interval=1", "--use_gpu=False",
             "--fix_random_seed", "True"]  # fmt: skip
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "last weights: ck/AttentionLSTM.pdparams" in out
    assert "best weights: ck/AttentionLSTM_epoch0.pdparams" in out
    assert "learning rate 0.02" in err
    config = Path("ck/config.yaml").read_text(encoding="utf-8")
    assert "batch_size: 5" in config
    assert "epoch: 1" in config
    assert "seed: 3" in config, "the file's seed is fixed already"


def test_fix_random_seed_makes_runs_equal(tagger_dir):
    Path("noseed.yaml").write_text(Path("tagger.yaml").read_text(encoding="utf-8").replace("seed: 3, ", ""))
    for name in ("a", "b"):
        assert main(["train", "--config=noseed.yaml", f"--save_dir={name}", "--fix_random_seed=True"]) == 0
    assert Path("a/AttentionLSTM.pdparams").read_bytes() == Path("b/AttentionLSTM.pdparams").read_bytes()


def test_names_of_a_vocabulary_lie_plain_beside_the_checkpoints(tagger_dir, capsys):
    rows = ["3,9,/m/3,鲸,,,,,", '0,9,/m/0,"cat, big",,,,,', "2,9,/m/2,,,,,,", "1,9,/m/1,dog,,,,,"]
    head = "Index,TrainVideoCount,KnowledgeGraphId,Name,WikiUrl,Vertical1,Vertical2,Vertical3,WikiDescription"
    Path("vocabulary.csv").write_text("\n".join([head, *rows, ""]), encoding="utf-8")
    words = ["train", "--config=tagger.yaml", "--epoch=1", "--valid_interval=0", "--save_dir=ck"]
    assert main([*words, "--set", "MODEL.label_file=vocabulary.csv"]) == 0
    names = ["cat, big", "dog", "/m/2", "鲸"]
    assert Path("ck/labels.txt").read_text(encoding="utf-8").splitlines() == names
    Path("ck/labels.txt").unlink()
    assert main(["eval", "--weights=ck", "--save_dir=ev", "--label_file=vocabulary.csv"]) == 0
    with Path("ev/per_class.csv").open(encoding="utf-8", newline="") as file:
        assert [row["class_name"] for row in csv.DictReader(file)] == names
    Path("vocabulary.csv").write_text("\n".join([head, *rows[:2], ""]), encoding="utf-8")
    capsys.readouterr()
    words = ["predict", "--weights=ck", "--label_file=vocabulary.csv", "--save_dir=pr"]
    assert "vocabulary.csv: no row has Index 1-2; every class id from 0 to 3" in fails(capsys, words)
    assert not list(Path("pr").iterdir())


def test_valid_interval_zero_never_validates(tagger_dir, capsys):
    assert main(["train", "--config=tagger.yaml", "--save_dir=ck", "--valid_interval=0"]) == 0
    assert "valid" not in Path("ck/train_log.jsonl").read_text(encoding="utf-8").replace("num_valid", "")
    assert not Path("ck/AttentionLSTM_best.pdparams").exists()


def test_eval_writes_metrics_json_and_prints_the_same(trained, capsys):
    assert main(["eval", "--weights=ck", "--save_dir=ev"]) == 0
    out, _ = capsys.readouterr()
    metrics = json.loads(Path("ev/metrics.json").read_text(encoding="utf-8"))
    assert set(metrics) == {
        "hit_at_one",
        "perr",
        "gap",
        "mean_ap",
        "mean_ap_head",
        "mean_ap_middle",
        "mean_ap_tail",
        "loss",
        "num_videos",
        "num_without_labels",
    }
    assert metrics["num_videos"] == 5
    for name, value in metrics.items():
        shown = next(line for line in out.splitlines() if line.startswith(f"{name} ")).split()[1]
        assert float(shown) == pytest.approx(value, abs=1e-4)


def test_eval_of_a_prefix_and_a_file_agree_and_json_stands_alone(trained, capsys):
    answers = []
    for weights in ("ck/AttentionLSTM_epoch1", "ck/AttentionLSTM_epoch1.pdparams"):
        assert main(["eval", f"--weights={weights}", "--save_dir=ev", "--batch_size=2", "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]


def test_eval_writes_a_row_per_class(trained, capsys):
    assert main(["eval", "--weights=ck", "--save_dir=ev", "--threshold=0.3", "--batch_size=2"]) == 0
    metrics = json.loads(Path("ev/metrics.json").read_text(encoding="utf-8"))
    with Path("ev/per_class.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class_name"] for row in rows] == ["cat", "dog", "bird", "鲸"]
    lines = Path("features/test.list").read_text(encoding="utf-8").splitlines()
    true = {words[0]: {int(i) for i in words[1:]} for words in map(str.split, lines)}
    assert [int(row["support"]) for row in rows] == [sum(c in ids for ids in true.values()) for c in range(4)]
    known = [float(row["average_precision"]) for row in rows if row["support"] != "0"]
    assert sum(known) / len(known) == pytest.approx(metrics["mean_ap"], abs=1e-5)
    # What predict says at the same threshold gives the same precision and recall.
    assert main(["predict", "--weights=ck", "--save_dir=pr", "--threshold=0.3", "--infer_topk=4"]) == 0
    predictions = json.loads(Path("pr/predictions.json").read_text(encoding="utf-8"))
    for class_id, row in enumerate(rows):
        said = {p["video_id"] for p in predictions if class_id in [t["class_id"] for t in p["tags"]]}
        right = sum(class_id in true[video_id] for video_id in said)
        assert row["precision"] == (f"{right / len(said):.6f}" if said else "")
        assert row["recall"] == (f"{right / int(row['support']):.6f}" if row["support"] != "0" else "")


def test_eval_parts_mean_ap_into_frequent_and_rare_classes(trained, capsys):
    # Positives in the list: cat 1, dog 2, bird 3, whale 0; then dog and bird alone.
    videos = [f"features/test{i}.npy" for i in range(3)]
    for name, labels in (("three", ["2 0", "2 1", "2 1"]), ("two", ["2", "2 1", "2 1"])):
        lines = [" ".join(line) for line in zip(videos, labels, strict=True)]
        Path(f"{name}.list").write_text("\n".join(lines), encoding="utf-8")
        assert main(["eval", "--weights=ck", f"--save_dir={name}", f"--filelist={name}.list"]) == 0
    metrics, of_two = (
        json.loads(Path(n, "metrics.json").read_text(encoding="utf-8")) for n in ("three", "two")
    )
    with Path("three/per_class.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["group"] for row in rows] == ["tail", "middle", "head", ""]
    for row in rows[:3]:
        expected = float(row["average_precision"])
        assert metrics[f"mean_ap_{row['group']}"] == pytest.approx(expected, abs=1e-6)
    assert "mean_ap_middle      " in capsys.readouterr().out
    assert not [name for name in of_two if name.startswith("mean_ap_")]


def test_eval_without_label_file_leaves_names_empty_and_says_so(trained, capsys):
    Path("ck/labels.txt").unlink()
    assert main(["eval", "--weights=ck", "--config=tagger.yaml", "--save_dir=ev"]) == 0
    assert "no class names: no labels.txt beside ck/" in capsys.readouterr().err
    assert "\n0,," in Path("ev/per_class.csv").read_text(encoding="utf-8")


def test_eval_reports_the_worst_mistakes_with_their_videos(trained, capsys):
    make_video("films/test0.mp4")
    words = ["eval", "--weights=ck", "--save_dir=ev", "--report=out/e.html", "--video_root=films"]
    assert main([*words, "--mistakes=5", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads(Path("ev/metrics.json").read_text(encoding="utf-8"))
    assert "out/e.html" in err
    page = Path("out/e.html").read_text(encoding="utf-8")
    assert page.count('class="mistake"') == 5
    assert page.count("data:image/jpeg;base64,") == 8, "test0 alone has a video"
    assert page.count("no video of this name in films") == 4
    assert "鲸" in page
    assert "<h1>Evaluation of AttentionLSTM on test.list</h1>" in page
    assert re.search(r"Weights: ck/AttentionLSTM\S*\.pdparams\. List: \S*test\.list\.<", page)
    assert "Learning curves" in page
    Path("ck/train_log.jsonl").write_bytes(b"\xff{\n[]\n")
    assert main([*words, "--mistakes=0"]) == 0
    assert "Learning curves" not in Path("out/e.html").read_text(encoding="utf-8")
    assert 'class="mistake"' not in Path("out/e.html").read_text(encoding="utf-8")


def test_eval_says_before_work_that_there_will_be_no_pictures(trained, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["eval", "--weights=ck", "--save_dir=ev", "--report=e.html"]) == 0
    err = capsys.readouterr().err
    assert err.index("pip install 'videotag[report]'") < err.index("batch 1 of 2")
    assert "pip install &#39;videotag[report]&#39;" in Path("e.html").read_text(encoding="utf-8")


def test_predict_writes_json_as_promised_and_a_readable_table(trained, capsys):
    assert main(["predict", "--weights=ck", "--save_dir=pr", "--infer_topk=2"]) == 0
    out, _ = capsys.readouterr()
    predictions = json.loads(Path("pr/predictions.json").read_text(encoding="utf-8"))
    assert [p["video_id"] for p in predictions] == [f"features/test{i}.npy" for i in range(5)]
    for prediction in predictions:
        assert len(prediction["tags"]) == 2
        for tag in prediction["tags"]:
            assert set(tag) == {"class_id", "class_name", "probability"}
            assert tag["class_name"] == ["cat", "dog", "bird", "鲸"][tag["class_id"]]
    first = predictions[0]["tags"][0]
    assert (
        f"features/test0.npy\n  {first['probability']:.4f}  {first['class_name']}  ({first['class_id']})"
        in out
    )


def test_predict_writes_jsonl_and_csv(trained, capsys):
    for name in ("json", "jsonl", "csv"):
        assert main(["predict", "--weights=ck", "--save_dir=pr", f"--format={name}"]) == 0
    expected = json.loads(Path("pr/predictions.json").read_text(encoding="utf-8"))
    lines = Path("pr/predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == expected
    with Path("pr/predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    assert list(rows[0]) == ["video_id", "rank", "class_id", "class_name", "probability"]
    assert [row["rank"] for row in rows[:3]] == ["1", "2", "3"]
    assert [int(row["class_id"]) for row in rows] == [t["class_id"] for p in expected for t in p["tags"]]


def test_predict_writes_the_form_of_the_challenge_beside_the_csv(trained, capsys):
    for words in (["--format=json"], ["--format=csv"], ["--format=kaggle"]):
        assert main(["predict", "--weights=ck", "--save_dir=pr", "--infer_topk=2", *words]) == 0
    assert "written: pr/predictions_kaggle.csv" in capsys.readouterr().err
    expected = json.loads(Path("pr/predictions.json").read_text(encoding="utf-8"))
    with Path("pr/predictions_kaggle.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["VideoId", "LabelConfidencePairs"]
    assert [row[0] for row in rows] == [p["video_id"] for p in expected]
    for (_, pairs), one in zip(rows, expected, strict=True):
        words = pairs.split(" ")
        assert [int(word) for word in words[::2]] == [tag["class_id"] for tag in one["tags"]]
        assert [float(word) for word in words[1::2]] == [tag["probability"] for tag in one["tags"]]
        assert len(words) == 4
    assert Path("pr/predictions.csv").read_text(encoding="utf-8").startswith("video_id,rank")


def test_predict_of_one_file_and_of_a_folder(trained, capsys):
    assert (
        main(["predict", "--weights=ck", "--save_dir=pr", "--video_path=features/test1.npy", "--json"]) == 0
    )
    assert [json.loads(line)["video_id"] for line in capsys.readouterr().out.splitlines()] == [
        "features/test1.npy"
    ]
    assert main(["predict", "--weights=ck", "--save_dir=pr", "--video_path=features"]) == 0
    assert len(json.loads(Path("pr/predictions.json").read_text(encoding="utf-8"))) == 20


def test_a_threshold_that_nothing_reaches_leaves_no_tags(trained, capsys):
    assert main(["predict", "--weights=ck", "--save_dir=pr", "--threshold=1"]) == 0
    assert "no tag reaches the threshold" in capsys.readouterr().out
    assert json.loads(Path("pr/predictions.json").read_text(encoding="utf-8"))[0]["tags"] == []


def test_predict_goes_on_after_a_bad_file_and_exits_with_1(trained, capsys):
    np.save("features/test2.npy", np.full((3, 6), np.nan, np.float32))
    assert main(["predict", "--weights=ck", "--save_dir=pr"]) == 1
    assert "failed: 1 of 5" in capsys.readouterr().err
    assert len(json.loads(Path("pr/predictions.json").read_text(encoding="utf-8"))) == 4


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "data/dataset/attention_lstm/train.list: no such"),
        (["train", "--config=none.yaml"], "none.yaml: no such config file"),
        (
            ["train", "--config=tagger.yaml", "--set", "TRAIN.epohc=3"],
            "TRAIN.epohc: unknown key; did you mean 'epoch'",
        ),
        (["train", "--config=tagger.yaml", "--set=TRAIN.epoch"], "expected SECTION.key=value"),
        (["train", "--config=tagger.yaml", "--model_name=TSN"], "is a config of AttentionLSTM, not of TSN"),
        (["train", "--config=tagger.yaml", "--model_name=Foo"], "Foo: unknown model; there are"),
        (["train", "--config=tagger.yaml", "--use_gpu=True"], "use_gpu is True, but the installed Paddle"),
        (["train", "--config=tagger.yaml", "--use_gpu=maybe"], "'maybe' is neither True nor False"),
        (["train", "--config=tagger.yaml", "--epoch=0"], "'0' is not an integer of at least 1"),
        (["train", "--config=tagger.yaml", "--pretrain=none"], "none: no weights"),
        (["train", "--config=tagger.yaml", "--label_file=gbk.txt"], "GBK"),
        (["train", "--config=tagger.yaml", "--label_file=short.txt"], "2"),
        (["train", "--config=tagger.yaml", "--save_dir=labels.txt"], "labels.txt"),
        (["train", "--config=configs/tsn.yaml"], "data/dataset/tsn/train.list: no such file"),
        (["eval"], "AttentionLSTM_epoch9.pdparams: no such file; train first"),
        (["eval", "--mistakes=3"], "--mistakes: has no effect without --report; give --report=eval.html too"),
        (["eval", "--video_root=."], "--video_root: has no effect without --report"),
        (["eval", "--report=e.html", "--video_root=none"], "none: no such folder; give --video_root=FOLDER"),
        (
            ["eval", "--label_file=short.txt", "--config=tagger.yaml", "--weights=w"],
            "short.txt: 2 names, expected",
        ),
        (["eval", "--threshold=2"], "'2' is not a number from 0 to 1"),
        (["extract", *EXTRACTOR], "data/TsnExtractor.list: no such"),
        (["extract", *EXTRACTOR, "--video_path=nowhere"], "nowhere: no such file or folder"),
        (["tag", "nowhere.mp4"], "nowhere.mp4: no such file"),
        (["tag", "."], "no videos in this folder"),
        (["tag", "a.mp4", "--segment_sec=nan"], "--segment_sec nan: expected a length above 0"),
        (["tag", "a.mp4", "--threshold=2"], "'2' is not a number from 0 to 1"),
        (["report", "nowhere.json"], "nowhere.json: no such file"),
        (["report", "labels.txt"], "labels.txt: not JSON"),
        (
            ["report", "other.json"],
            "other.json: not predictions; give the JSON that `videotag tag --json` prints",
        ),
        (["make-clips", "out", "--split=1,1,1"], "is not three fractions that sum to 1"),
        (["make-clips", "out", "--size=33"], "--size 33: expected an even number"),
        (["unheard-of"], "invalid choice"),
        (["train", "--epochs=3"], "unrecognized arguments: --epochs=3"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tagger_dir, capsys, words, message):
    Path("gbk.txt").write_bytes("猫\n狗\n鸟\n鲸\n".encode("gbk"))
    Path("other.json").write_text('[{"video_id": "a", "tags": ["cat"]}]', encoding="utf-8")
    Path("short.txt").write_text("one\ntwo\n", encoding="utf-8")
    Path("w.pdparams").write_bytes(b"never read")
    err = fails(capsys, words)
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_all_bad_lines_of_a_list_are_reported_together(tagger_dir, capsys):
    Path("features/train.list").write_text(
        "features/train0.npy 1\nfeatures/train1.npy x\nfeatures/train2.npy 4\n"
        "features/none.npy 0\nfeatures/train3.npy\n"
    )
    lines = fails(capsys, ["train", "--config=tagger.yaml"]).strip().splitlines()
    assert len(lines) == 3  # a sample of several tags may have none of them
    for number, line in zip((2, 3, 4), lines, strict=True):
        assert f"features/train.list:{number}: " in line


def test_a_video_for_a_tagger_names_videotag_tag(trained, capsys):
    make_video("a.mp4")
    assert "for a video use `videotag tag a.mp4`" in fails(
        capsys, ["predict", "--weights=ck", "--video_path=a.mp4"]
    )


def test_features_for_a_tsn_name_videotag_tag(tagger_dir, capsys):
    err = fails(capsys, ["predict", *EXTRACTOR, "--video_path=features/test0.npy"])
    assert "reads videos; for features name a tagger, for both stages use `videotag tag`" in err


def test_weights_under_another_config_name_their_own(trained, capsys):
    err = fails(capsys, ["eval", "--weights=ck", "--config=tagger.yaml", "--set=MODEL.num_classes=9"])
    assert "output.weight: shape (8, 4), expected (8, 9)" in err
    assert "the weights' own config is ck/config.yaml" in err


def test_a_traceback_is_shown_with_debug_alone(tagger_dir, capsys):
    assert main(["train", "--config=none.yaml", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_is_called_one_and_has_its_own_exit_code(tagger_dir, capsys, monkeypatch):
    monkeypatch.setattr("videotag.models.load_models", lambda: 1 / 0)
    err = fails(capsys, ["models"], code=70)
    assert "a bug in videotag: ZeroDivisionError" in err
    assert "run it again with --debug" in err


def test_ctrl_c_exits_with_130(tagger_dir, capsys, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("videotag.models.load_models", interrupt)
    assert "interrupted" in fails(capsys, ["models"], code=130)


# ---------------------------------------------------------------- models, make-clips, tag, report


def test_models_lists_models_weights_and_configs(capsys):
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"AttentionLSTM", "TSN", "resnet101", "efficientnet_lite0"} <= {
        m["name"] for m in listed["models"]
    }
    assert "efficientnet_lite0_imagenet" in {w["name"] for w in listed["weights"]}
    assert "configs/tsn.yaml" in {c["name"] for c in listed["configs"]}


def test_tag_names_five_things_per_video_and_segment_and_reports_them(work_dir, capsys):
    make_video("a b.mp4")
    (work_dir / "no.mp4").write_bytes(b"not a video")
    words = ["tag", "a b.mp4", "no.mp4", "--json", "--report=r.html", "--save_dir=out", "--format=jsonl",
             "--segment_sec=0.5", "--seg_num=8"]  # fmt: skip
    assert main(words) == 1, "one video of two cannot be decoded"
    out, err = capsys.readouterr()
    (result,) = json.loads(out)
    assert "failed: no.mp4" in err
    assert result["video_id"] == "a b.mp4"
    assert len(result["tags"]) == 5
    assert [s["start_sec"] for s in result["segments"]] == [0.0, 0.5]
    assert result["segments"][-1]["end_sec"] == pytest.approx(1.0)
    assert json.loads((work_dir / "out" / "predictions.jsonl").read_text(encoding="utf-8")) == result
    assert "data:image/jpeg;base64," in (work_dir / "r.html").read_text(encoding="utf-8")


def test_the_whole_way_from_clips_to_a_report(work_dir, capsys):
    assert main(["make-clips", "clips", "--num_clips=10", "--duration_sec=1", "--fps=8", "--size=64"]) == 0
    for split in ("train", "val", "test"):
        words = [
            "extract",
            *EXTRACTOR,
            f"--filelist=clips/{split}.list",
            "--save_dir=f",
            "--set=INFER.seg_num=8",
            "--precision=f32",
        ]
        assert main(words) == 0
    num_classes = len(Path("clips/labels.txt").read_text(encoding="utf-8").splitlines())
    Path("t.yaml").write_text(
        f"""
MODEL: {{name: AttentionLSTM, feature_dims: [1280], embedding_size: 16, lstm_size: 8, fc_sizes: [16, 16],
        num_classes: {num_classes}, topk: 4}}
TRAIN: {{epoch: 2, batch_size: 4, filelist: f/train.list, seed: 1}}
VALID: {{filelist: f/val.list}}
TEST: {{filelist: f/test.list}}
INFER: {{filelist: f/test.list}}
""",
        encoding="utf-8",
    )
    assert main(["train", "--config=t.yaml", "--label_file=clips/labels.txt", "--save_dir=ck"]) == 0
    assert main(["eval", "--weights=ck", "--save_dir=ev"]) == 0
    assert main(["predict", "--weights=ck", "--save_dir=pr", "--precision=f32"]) == 0
    capsys.readouterr()
    tests = [line.split()[0] for line in Path("clips/test.list").read_text(encoding="utf-8").splitlines()]
    words = ["tag", *tests, "--extractor_weights=efficientnet_lite0_imagenet", "--predictor_weights=ck"]
    assert main([*words, "--seg_num=8", "--precision=f32", "--json"]) == 0
    tagged = json.loads(capsys.readouterr().out)
    predicted = json.loads(Path("pr/predictions.json").read_text(encoding="utf-8"))
    for one, two in zip(tagged, predicted, strict=True):  # both ways give the same tags
        assert [t["class_id"] for t in one["tags"]] == [t["class_id"] for t in two["tags"]]
        assert [t["probability"] for t in one["tags"]] == pytest.approx(
            [t["probability"] for t in two["tags"]], abs=1e-4
        )
        assert sum(one["attention"]["rgb"]) == pytest.approx(1.0, abs=1e-3)
    Path("tags.json").write_text(json.dumps(tagged), encoding="utf-8")
    words = [
        "report",
        "tags.json",
        "--out=r.html",
        "--filelist=clips/test.list",
        "--label_file=clips/labels.txt",
    ]
    assert main(words) == 0
    page = Path("r.html").read_text(encoding="utf-8")
    assert page.count("<polyline") == len(tagged)


def test_named_weights_bring_their_config_and_labels(work_dir, capsys):
    make_video("a.mp4")
    words = ["--weights=efficientnet_lite0_imagenet", "--video_path=a.mp4"]
    assert main(["predict", *words, "--infer_topk=3", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["tags"]) == 3
    assert main(["extract", *words, "--save_dir=f"]) == 0
    assert np.load("f/a.npy").shape == (60, 1280)


def test_extract_takes_the_list_of_the_config_where_the_user_wrote_it(work_dir, capsys):
    for name in ("a", "b", "c", "d"):
        Path(f"{name}.list").write_text(make_video(f"{name}.mp4"), encoding="utf-8")
    words = ["extract", "--weights=efficientnet_lite0_imagenet", "--save_dir=f", "--set=INFER.seg_num=2"]
    assert main([*words, "--set", "INFER.filelist=a.list"]) == 0
    yaml = "MODEL: {name: TSN, backbone: efficientnet_lite0, num_classes: 1000}\nINFER: {filelist: b.list}\n"
    Path("mine.yaml").write_text(yaml, encoding="utf-8")
    assert main([*words, "--config=mine.yaml"]) == 0
    assert main([*words, "--config=mine.yaml", "--filelist=c.list"]) == 0
    assert {path.stem for path in Path("f").glob("*.npy")} == {"a", "b", "c"}
    assert "feature list: f/b.list" in capsys.readouterr().out
    Path("data").mkdir()
    Path("d.list").rename("data/TsnExtractor.list")
    assert main([*words]) == 0
    assert Path("f/d.npy").exists()
    capsys.readouterr()
    assert "e.list: no such file" in fails(capsys, [*words, "--set", "infer.filelist=e.list"])


def test_features_come_from_the_folders_that_frames_has_made(work_dir, capsys):
    Path("v.list").write_text(f"{make_video('a.b.mp4')} 3\n{make_video('a.c.mp4')} 1 2\n", encoding="utf-8")
    assert main(["frames", "--filelist=v.list", "--save_dir=frames"]) == 0
    words = ["extract", *EXTRACTOR, "--save_dir=f", "--set=INFER.seg_num=4", "--set=MODEL.format=frames"]
    assert main([*words, "--filelist=frames/v.list"]) == 0
    assert "extracted 2 (in part 0), kept 0, failed 0" in capsys.readouterr().out
    listed = read_filelist("f/v.list")
    assert [(e.path, e.label_ids) for e in listed] == [
        ("f/frames/a.b.npy", (3,)),
        ("f/frames/a.c.npy", (1, 2)),
    ]
    assert np.load(listed[0].path).shape == (4, 1280)
    assert main([*words, "--filelist=frames/v.list"]) == 0
    assert "kept 2" in capsys.readouterr().out
    assert main(["frames", "--filelist=v.list", "--save_dir=frames", "--num_frames=5"]) == 0
    assert main([*words, "--filelist=frames/v.list"]) == 0
    assert "extracted 2" in capsys.readouterr().out
    err = fails(capsys, [*words, "--video_path=frames/a.b"])
    assert "--video_path: MODEL.format is frames, which needs a list; give --filelist" in err


@pytest.mark.parametrize(("command", "archive"), [("predict", "lstm"), ("extract", "tsn")])
def test_without_weights_and_network_the_error_says_what_to_put_where(
    trained, capsys, monkeypatch, command, archive
):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert main([command]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no such weights; give --weights. The published ones: https://" in last
    assert f"video_tag_{archive}.tar: cannot be fetched" in last
    assert "fetch it yourself and put it at" in last


def test_published_weights_stand_in_where_none_are_named(work_dir, monkeypatch):
    monkeypatch.setenv("VIDEOTAG_CACHE", str(work_dir / "cache"))
    (work_dir / "cache").mkdir()
    (work_dir / "cache" / "videotag_tsn.tar").write_bytes(b"what was downloaded")
    names = {"default": "./weights/tsn", "published": "videotag_tsn"}
    found = arguments.find_checkpoint(None, **names)
    assert (found.path.name, found.config) == ("videotag_tsn.tar", "configs/tsn_videotag.yaml")
    (work_dir / "weights").mkdir()
    (work_dir / "weights" / "tsn.pdparams").write_bytes(b"the user's own")
    assert arguments.find_checkpoint(None, **names).path == Path("weights/tsn.pdparams")


def test_weights_of_another_kind_of_network_are_one_line(trained, capsys):
    err = fails(capsys, ["eval", "--config=tagger.yaml", "--weights=efficientnet_lite0_imagenet"])
    assert "none of the network's arrays is in the file" in err
    assert len(err.strip().splitlines()) == 1


# ---------------------------------------------------------------- processes


def start(words, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("script", ["train.py", "eval.py", "predict.py", "tsn_extractor.py"])
def test_the_classic_scripts_work_from_any_folder(work_dir, script):
    done = start([str(ROOT / script), "--help"], work_dir)
    out, err = done.communicate()
    assert (done.returncode, err) == (0, "")
    assert "--use_gpu" in out


def test_run_sh_passes_flags_on(trained):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
    words = [
        "bash",
        str(ROOT / "run.sh"),
        "eval",
        "AttentionLSTM",
        "tagger.yaml",
        "--weights=ck",
        "--save_dir=ev",
    ]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path("ev/metrics.json").exists()
    assert subprocess.run(words[:2], env=environment, capture_output=True).returncode == 2


def test_a_closed_pipe_ends_the_printing_not_the_work(trained):
    process = start(["-m", "videotag", "predict", "--weights=ck", "--save_dir=pr"], trained)
    process.stdout.close()  # what `| head` does when it has seen enough
    with process.stderr as stderr:
        err = stderr.read()
    assert process.wait() == 0, err
    assert "Traceback" not in err
    assert len(json.loads(Path("pr/predictions.json").read_text(encoding="utf-8"))) == 5


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_an_extraction_killed_in_the_middle_leaves_whole_files_and_goes_on(work_dir, capsys, how, code):
    names = [f"v{i:02d}.mp4" for i in range(40)]
    for name in names:
        make_video(name, num_frames=24)
    Path("videos.list").write_text("\n".join(names), encoding="utf-8")
    words = ["extract", *EXTRACTOR, "--filelist=videos.list", "--save_dir=out", "--set=INFER.seg_num=24"]
    with start(["-m", "videotag", *words], work_dir) as process:
        deadline = time.monotonic() + 300
        while len(list(Path("out").glob("v*.npy"))) < 3 and process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
            time.sleep(0.02)
        process.send_signal(how)
        try:
            _, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == code, err
    assert "traceback" not in err.lower()
    if how != signal.SIGKILL:
        word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[how]
        assert err.splitlines()[-1] == f"videotag extract: {word}"
    whole = list(Path("out").glob("v*.npy"))
    assert 3 <= len(whole) < 40, "killed too late to say anything"
    for path in whole:
        assert np.load(path).shape == (24, 1280)
    assert main(words) == 0
    assert f"kept {len(whole)}" in capsys.readouterr().out
    assert len(list(Path("out").glob("v*.npy"))) == 40
