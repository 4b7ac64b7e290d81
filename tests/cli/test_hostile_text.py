"""Hostile YAML, JSON, label files and names in the hands of the commands: one line, exit code 2, at once."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.inference.frozen_runtime import RUNTIME_FILE

LAUGHS = "x0: &x0 [lol]\n" + "".join(f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 10))
ESCAPES = "\x1b[2J\x1b]0;owned\x07\nvideotag predict: all is well"
SHOWN = r"\x1b[2J\x1b]0;owned\x07\nvideotag predict: all is well"
YAML = [
    LAUGHS + "MODEL: *x9\n",
    "MODEL:\n  name: !!bool maybe\n",
    "MODEL:\n  name: 2001-99-99\n",
    "MODEL: {name: AttentionLSTM, num_classes: " + "9" * 5000 + "}",
    "INFER:\n  !!int xize: 128\n",
    "MODEL: {url: !!timestamp xe}\n",
    "MODEL: " + "[" * 10**5,
    "[" + "1:59:59, " * 70_000 + "]",
    "MODEL: 1" + ":59" * 80_000,
    "MODEL: !!python/object/apply:os.system [id]",
    "MODEL: !!binary ====",
    "MODEL: \0",
    'MODEL: "\\UFFFFFFFF"',
    "{}",
    "[]",
    "a",
    "1: {2: 3}",
]
DEEP = '{"precision": ' + "[" * 5000 + "]" * 5000 + "}"


def refused(capsys, words):
    """What a command that must refuse says: one line, without control characters."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.removesuffix("\n").split("\n")
    assert line.isprintable()
    assert len(line) < 1500
    assert "a bug in videotag" not in line
    return line


@pytest.mark.parametrize("text", YAML, ids=lambda text: text[:30])
def test_a_hostile_config_ends_train(tagger_dir, capsys, text):
    Path("c.yaml").write_text(text, encoding="utf-8")
    refused(capsys, ["train", "--config=c.yaml"])


@pytest.mark.parametrize("text", YAML, ids=lambda text: text[:30])
def test_a_hostile_config_beside_weights_ends_predict(tagger_dir, capsys, text):
    Path("ck").mkdir()
    Path("ck/w.pdparams").write_bytes(b"never read")
    Path("ck/config.yaml").write_text(text, encoding="utf-8")
    refused(capsys, ["predict", "--weights=ck/w.pdparams", "--video_path=features/test0.npy"])


@pytest.mark.parametrize("text", YAML, ids=lambda text: text[:30])
@pytest.mark.parametrize("command", ["models", "download"])
def test_a_hostile_list_of_weights_ends_the_commands_that_show_it(work_dir, capsys, command, text):
    Path("weights").mkdir()
    Path("weights/models.yaml").write_text(text, encoding="utf-8")
    lines = main_error(capsys, [command]).splitlines()
    assert all("weights/models.yaml: " in line for line in lines)


def test_what_the_list_of_weights_says_is_shown_without_control_characters(work_dir, capsys):
    fields = {"url": "https://example.org/a.pth", "config": ESCAPES, "labels": None, "licence": ESCAPES}
    fields |= {"source": "-", "verified": False}
    Path("weights").mkdir()
    Path("weights/models.yaml").write_text(json.dumps({"net": fields}), encoding="utf-8")
    for words in (["models"], ["download"]):
        assert main(words) == 0
        out = capsys.readouterr().out
        assert SHOWN in out
        assert out.replace("\n", "").isprintable()
    fields["package"] = "os.path"
    Path("weights/models.yaml").write_text(json.dumps({ESCAPES: fields}), encoding="utf-8")
    assert SHOWN in main_error(capsys, ["models"])


def main_error(capsys, words):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.replace("\n", "").isprintable()
    assert "bug" not in err
    return err


@pytest.mark.parametrize(
    "text",
    [
        'Index,KnowledgeGraphId,Name" \n0,a,b\n',
        "Index,KnowledgeGraphId,\"Name\n0,a,b\n",
        'Index,KnowledgeGraphId,"Na"me"\n0,a,b\n',
        "\rIndex,KnowledgeGraphId,Name\n0,a,b\n",
        "\ufeffIndex,Tra\x0einVideoCount,KnowledgeGraphId,Name\r,WikiUrl\n0,1,/m/a,Game,http",
        "Index,KnowledgeGraphId,Name\n" + "9" * 5000 + ",a,b\n",
        "Index,KnowledgeGraphId,Name\n0,a," + "b" * 10**6 + "\n",
        "Index,KnowledgeGraphId,Name\n" + "".join(f"{2 * i},a,b\n" for i in range(10_000)),
        "Index,KnowledgeGraphId,Name\n0,a\0,b\n",
        "9" * 10**5,
        "a\n\0\n",
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_a_hostile_label_file_ends_train(tagger_dir, capsys, text):
    Path("l.csv").write_text(text, encoding="utf-8", newline="")
    assert "l.csv" in refused(capsys, ["train", "--config=tagger.yaml", "--label_file=l.csv"])


TAG = {"class_id": 1, "class_name": "x", "probability": 0.5}


@pytest.mark.parametrize(
    "predictions",
    [
        [{"video_id": 0, "tags": []}],
        [{"video_id": None, "tags": []}],
        [{"video_id": "a", "tags": {}}],
        [{"video_id": "a", "tags": [TAG | {"probability": "0.5;background:url(http://127.0.0.1:9/)"}]}],
        [{"video_id": "a", "tags": [TAG | {"probability": [0.5]}]}],
        [{"video_id": "a", "tags": [TAG | {"probability": float("nan")}]}],
        [{"video_id": "a", "tags": [TAG | {"probability": 10**39}]}],
        [{"video_id": "a", "tags": [TAG | {"class_name": ["x"]}]}],
        [{"video_id": "a", "tags": [TAG], "attention": [1, 2]}],
        [{"video_id": "a", "tags": [TAG], "attention": {"rgb": [0.5]}}],
        [{"video_id": "a", "tags": [TAG], "attention": {"rgb": ["x"]}, "duration_sec": 1.0}],
        [{"video_id": "a", "tags": [TAG], "attention": {"rgb": 1}, "duration_sec": 1.0}],
        [{"video_id": "a", "tags": [TAG], "duration_sec": "1"}],
        [{"video_id": "a", "tags": [TAG], "segments": [1]}],
        [{"video_id": "a", "tags": [TAG], "segments": [{"start_sec": 0, "end_sec": 1, "tags": 1}] * 2}],
        [{"video_id": "a", "tags": [TAG], "segments": {"a": 1}}],
        [{"video_id": "a", "tags": [TAG], "warning": {}}],
        {"a": 1},
        1,
        "text",
        [[]],
    ],
    ids=lambda value: json.dumps(value)[:80],
)
def test_hostile_predictions_end_report(work_dir, capsys, predictions):
    Path("p.json").write_text(json.dumps(predictions), encoding="utf-8")
    assert "p.json: not predictions; give the JSON that" in refused(capsys, ["report", "p.json"])
    assert not Path("report.html").exists()


@pytest.mark.parametrize(
    "text", ["[" * 10**5, "9" * 5000, '[{"a":' * 10**5, "\0", "[" + "[]," * 2_100_000 + "1]"]
)
def test_hostile_json_ends_report(work_dir, capsys, text):
    Path("p.json").write_text(text, encoding="utf-8")
    Path("good.json").write_text("[]", encoding="utf-8")
    assert "p.json: not JSON: " in refused(capsys, ["report", "p.json"])
    assert "p.json: not JSON: " in refused(capsys, ["report", "good.json", "--metrics=p.json"])


def test_a_page_shows_texts_without_control_characters_and_bounded(work_dir, capsys):
    long = "y" * 10**6
    video = {"video_id": ESCAPES, "tags": [TAG | {"class_name": ESCAPES}, TAG | {"class_name": long}]}
    video |= {"duration_sec": None, "warning": ESCAPES, "attention": {ESCAPES: [0.5, 0.5], "none": []}}
    segment = {"start_sec": 0, "end_sec": 1, "tags": video["tags"]}
    video["segments"] = [segment, {**segment, "tags": []}]
    half = {"video_id": "\ud800\0", "tags": []}
    Path("p.json").write_text(json.dumps([video, half]), encoding="utf-8")
    metrics = {"gap": 10**39, ESCAPES: ESCAPES, "nested": [[long]], "none": None, "loss": float("nan")}
    Path("m.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert main(["report", "p.json", "--metrics=m.json", f"--title={ESCAPES}"]) == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert SHOWN in page
    assert "\x1b" not in page
    assert len(page) < 20_000
    assert r"\ud800\x00" in page


@pytest.mark.parametrize(
    "text",
    [DEEP, "[" * 10**5, "9" * 5000, "[]", "{}", '{"precision": ["f32"]}', '{"precision": "f64"}', "\0", ""],
    ids=lambda text: text[:20],
)
def test_a_hostile_runtime_of_a_folder_ends_extract(work_dir, capsys, text):
    Path("out").mkdir()
    Path("out", RUNTIME_FILE).write_text(text, encoding="utf-8")
    Path("a.mp4").write_bytes(b"never decoded")
    words = ["extract", "--config=configs/tsn_efficientnet_lite0.yaml", "--video_path=a.mp4"]
    words += [
        "--weights=efficientnet_lite0_imagenet",
        "--save_dir=out",
        "--backend=paddle",
        "--precision=f32",
    ]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert f"out/{RUNTIME_FILE}: " in err
    assert "remove the file" in err
    assert "bug" not in err


CARDS = {
    "deep": lambda card: DEEP,
    "digits": lambda card: "9" * 5000,
    "list": lambda card: "[]",
    "text": lambda card: '"a"',
    "no digests": lambda card: json.dumps({**card, "sha256": []}),
    "epoch of another type": lambda card: json.dumps({**card, "epoch": "2"}),
    "epoch of no file": lambda card: json.dumps({**card, "epoch": 10**9}),
    "negative epoch": lambda card: json.dumps({**card, "epoch": -1}),
    "negative seed": lambda card: json.dumps({**card, "seed": -1}),
    "later best": lambda card: json.dumps({**card, "best_epoch": 7}),
    "best of another type": lambda card: json.dumps({**card, "best": {"gap": ["x"]}}),
    "unknown key": lambda card: json.dumps({**card, ESCAPES: 1}),
}


@pytest.mark.parametrize("damage", CARDS.values(), ids=CARDS)
def test_a_damaged_card_falls_back_to_the_checkpoint_before(trained, capsys, damage):
    path = Path("ck/AttentionLSTM_epoch1.json")
    path.write_text(damage(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    assert main(["train", "--config=ck/config.yaml", "--save_dir=ck", "--resume"]) == 0
    err = capsys.readouterr().err
    assert "ck/AttentionLSTM_epoch1.pdparams: damaged (" in err
    assert "falling back to the previous one" in err
    assert "resuming after" in err
    assert err.replace("\n", "").isprintable()


def test_a_card_whose_best_metrics_lack_the_one_that_counts_is_beaten(trained, capsys):
    path = Path("ck/AttentionLSTM_epoch1.json")
    card = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**card, "best": {"loss": 1.0}}), encoding="utf-8")
    words = ["train", "--config=ck/config.yaml", "--save_dir=ck", "--resume", "--epoch=3"]
    assert main(words) == 0
    assert "gap" in capsys.readouterr().out


def test_tables_logs_and_json_show_names_without_control_characters(trained, capsys):
    name = "\x1b[2J\u202e\x9bowned"
    Path("ck/labels.txt").write_text(f"{name}\ndog\nbird\n鲸\n", encoding="utf-8")
    video = f"features/{ESCAPES}.npy"
    shutil.copy("features/test0.npy", video)
    words = ["predict", "--weights=ck", f"--video_path={video}", "--save_dir=pr", "--infer_topk=4"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert r"\x1b[2J\u202e\x9bowned" in out
    assert f"features/{SHOWN}.npy\n" in out
    assert (out + err).replace("\n", "").isprintable()
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert (out + err).replace("\n", "").isprintable()
    found = json.loads(out)
    assert found["video_id"] == video
    assert name in [tag["class_name"] for tag in found["tags"]]
    assert [found] == json.loads(Path("pr/predictions.json").read_text(encoding="utf-8"))


def test_failed_files_are_named_on_one_line_each(trained, capsys):
    Path("mine").mkdir()
    np.save(f"mine/{ESCAPES}.npy", np.full((2, 6), np.nan, np.float32))
    np.save("mine/good.npy", np.ones((2, 6), np.float32))
    assert main(["predict", "--weights=ck", "--video_path=mine", "--save_dir=pr"]) == 1
    err = capsys.readouterr().err
    assert "failed: 1 of 2\n" in err
    assert f"mine/{SHOWN}.npy: " in err
    assert err.replace("\n", "").isprintable()
    assert not [line for line in err.splitlines() if line.startswith("videotag predict: all is well")]


def test_names_inside_a_feature_file_make_no_line_of_their_own(trained, capsys):
    with zipfile.ZipFile("esc.npz", "w") as file:
        file.writestr(f"{ESCAPES}.npy", b"x")
    for words in (["--video_path=esc.npz"], ["--set=INFER.filelist=esc.list"]):
        Path("esc.list").write_text("esc.npz\n", encoding="utf-8")
        assert "esc.npz" in refused(capsys, ["predict", "--weights=ck", "--save_dir=pr", *words])


def test_long_flags_are_cut_in_messages(work_dir, capsys):
    long = "x" * 10**5
    for words in (
        ["predict", f"--threshold={long}"],
        ["train", f"--{long}"],
        ["train", "--config=configs/tsn.yaml", f"--set={long}"],
        ["train", "--config=configs/tsn.yaml", f"--set=TRAIN.epoch=[{long}"],
        ["train", "--config=configs/tsn.yaml", f"--set={long}.epoch=1"],
        ["train", f"--model_name={long}"],
        ["train", f"--config={ESCAPES}"],
        [long],
    ):
        refused(capsys, words)
