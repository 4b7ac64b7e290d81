"""Models and readers in files outside of the package go through the same code as those in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import videotag as videotag_package
from videotag.cli.main import main
from videotag.config import load_config
from videotag.datasets.sample_dataset import SampleDataset
from videotag.errors import ConfigError, PluginError, UnknownNameError
from videotag.inference.data import open_dataset, read_section_list
from videotag.inference.trained_model import TrainedModel
from videotag.inference.weights_stage import stage_of
from videotag.media.writer import write_video
from videotag.models import load_models
from videotag.plugins import load_installed, load_plugin, plugin_line
from videotag.registry import _REGISTRIES, LOGITS, MASK, get_reader
from videotag.runtime.parity import random_samples

EXAMPLES = Path(__file__).parent / "plugin_example"
RAW_GRU, TWO_INPUTS = EXAMPLES / "raw_gru.py", EXAMPLES / "two_inputs.py"
BACKENDS = ("onnx", "openvino", "paddle")
VIDEO_KEYS = {"seg_num": 6, "short_size": 40, "target_size": 40}
EXACT = {"backend": "paddle", "precision": "f32"}

pytestmark = pytest.mark.usefixtures("own_registry")


def write_config(path, model, **sections):
    keys = {"num_classes": 3, "topk": 2}
    Path(path).write_text(yaml.safe_dump({"MODEL": {**model, **keys}, **sections}), encoding="utf-8")


def write_films(count):
    """Videos whose brightness grows or shrinks, or which flicker; and a list of them."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(count):
        label, length = number % 3, 4 + number % 5
        level = np.linspace(20, 230, length)
        level = [level, level[::-1], rng.permutation(level)][label]
        frames = np.clip(level[:, None, None, None] + rng.normal(0, 5, (length, 48, 64, 3)), 0, 255)
        write_video(f"film{number}.mp4", frames.astype(np.uint8), fps=8)
        lines.append(f"film{number}.mp4 {label}\n")
    Path("films.list").write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def films(work_dir):
    write_films(9)
    config = yaml.safe_load(RAW_GRU.with_suffix(".yaml").read_text(encoding="utf-8"))
    config["MODEL"] |= {"num_classes": 3, "topk": 2, "hidden_size": 8, "label_file": None}
    for name in ("TRAIN", "TEST", "INFER"):
        config[name] |= {**VIDEO_KEYS, "filelist": "films.list", "batch_size": 4}
    config["TRAIN"] |= {"epoch": 2, "seed": 1, "use_gpu": False}
    config["INFER"] |= EXACT
    del config["VALID"]["filelist"]
    Path("c.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return work_dir


@pytest.fixture
def posts(work_dir):
    """Pictures and texts as JSON lines; the third one lacks its picture."""
    lines = []
    for number in range(8):
        colour = [250, 5, 5] if number % 2 else [5, 5, 250]
        Image.fromarray(np.tile(np.array(colour, np.uint8), (20, 30, 1))).save(f"p{number}.png")
        labels = [number % 2, 2] if number % 4 == 0 else [number % 2]
        text = "a cat" if number % 4 == 0 else "some other words here"
        image = None if number == 2 else f"p{number}.png"
        lines.append(json.dumps({"id": f"post{number}", "image": image, "text": text, "labels": labels}))
    Path("posts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = yaml.safe_load(TWO_INPUTS.with_suffix(".yaml").read_text(encoding="utf-8"))
    for name in ("TRAIN", "TEST", "INFER"):
        config[name]["filelist"] = "posts.jsonl"
    config["TRAIN"]["use_gpu"] = False
    config["INFER"] |= EXACT
    Path("c.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return work_dir


def videotag(plugin, command, *words):
    assert main([command, "--plugin", str(plugin), *words]) == 0


def predictions(folder):
    found = json.loads(Path(folder, "predictions.json").read_text(encoding="utf-8"))
    return [
        (each["video_id"], {tag["class_id"]: tag["probability"] for tag in each["tags"]}) for each in found
    ]


def assert_exports_predict_alike(plugin, folder):
    videotag(plugin, "predict", f"--weights={folder}", "--save_dir=layers")
    for backend in BACKENDS:
        videotag(plugin, "export", f"--weights={folder}", f"--to={backend}")
        export = f"--weights={folder}/export_{backend}_f32"
        videotag(plugin, "predict", export, f"--save_dir={backend}", "--set=INFER.filelist=" + infer_list())
        for (name, found), (expected_name, expected) in zip(
            predictions(backend), predictions("layers"), strict=True
        ):
            assert name == expected_name
            assert found == pytest.approx(expected, abs=1e-5)


def infer_list():
    return str(yaml.safe_load(Path("c.yaml").read_text(encoding="utf-8"))["INFER"]["filelist"])


@pytest.mark.slow
def test_a_gru_over_raw_frames_goes_all_the_way(films, capsys):
    videotag(RAW_GRU, "train", "--config=c.yaml", "--save_dir=straight", "--epoch=2")
    videotag(RAW_GRU, "train", "--config=c.yaml", "--save_dir=resumed", "--epoch=1")
    videotag(RAW_GRU, "train", "--config=c.yaml", "--save_dir=resumed", "--epoch=2", "--resume")
    for name in ("RawGRU.pdparams", "config.yaml"):
        assert Path("resumed", name).read_bytes() == Path("straight", name).read_bytes()
    config = yaml.safe_load(Path("straight/config.yaml").read_text(encoding="utf-8"))
    assert config["PLUGINS"] == ["raw_gru"]
    videotag(RAW_GRU, "eval", "--weights=straight", "--save_dir=metrics")
    metrics = json.loads(Path("metrics/metrics.json").read_text(encoding="utf-8"))
    assert metrics["num_videos"] == 9
    assert_exports_predict_alike(RAW_GRU, "straight")
    capsys.readouterr()


@pytest.mark.slow
def test_a_model_of_two_inputs_goes_all_the_way_and_learns_both(posts, capsys):
    videotag(TWO_INPUTS, "train", "--config=c.yaml", "--save_dir=ck")
    videotag(TWO_INPUTS, "eval", "--weights=ck", "--save_dir=metrics")
    metrics = json.loads(Path("metrics/metrics.json").read_text(encoding="utf-8"))
    assert metrics["gap"] > 0.9  # colours tell two tags, words the third
    assert_exports_predict_alike(TWO_INPUTS, "ck")
    capsys.readouterr()


def test_token_ids_stay_integers_and_a_missing_picture_is_masked(posts):
    load_models()
    load_plugin(TWO_INPUTS)
    config = load_config("c.yaml")
    entries = read_section_list(config, "TEST", labels="required")
    dataset = open_dataset(config, entries, config.test)
    assert isinstance(dataset, SampleDataset)
    (batch,) = dataset.batches([np.arange(1, 4)], on_error=lambda _, error: pytest.fail(str(error)))
    assert batch.ids == ["post1", "post2", "post3"]
    assert batch.inputs["text"].dtype == np.int64
    assert batch.inputs["image"].dtype == np.uint8
    assert batch.inputs["image" + MASK].tolist() == [[True], [False], [True]]
    assert not batch.inputs["image"][1].any()


def test_a_picture_that_cannot_be_read_is_left_out_of_its_batch(posts):
    load_models()
    load_plugin(TWO_INPUTS)
    Path("p1.png").write_text("no picture", encoding="utf-8")
    config = load_config("c.yaml")
    dataset = open_dataset(config, read_section_list(config, "TEST", labels="required"), config.test)
    failed = {}
    (batch,) = dataset.batches([np.arange(3)], on_error=lambda video, error: failed.update({video: error}))
    assert batch.ids == ["post0", "post2"]
    assert list(failed) == ["post1"]
    assert "p1.png: not a readable picture" in str(failed["post1"])


def test_a_config_names_its_plugin_and_never_executes_it(films):
    videotag(RAW_GRU, "train", "--config=c.yaml", "--save_dir=ck", "--epoch=1")
    done = subprocess.run(
        [sys.executable, "-m", "videotag", "eval", "--weights=ck"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "RawGRU: unknown model; there are: AttentionCluster" in done.stderr
    assert done.stderr.endswith("the config was made with plugins: give --plugin raw_gru.py\n")


def rename_field(old, new):
    text = Path("posts.jsonl").read_text(encoding="utf-8")
    Path("posts.jsonl").write_text(text.replace(f'"{old}"', f'"{new}"'), encoding="utf-8")


def test_a_field_that_no_sample_has_is_an_error_or_a_warning_if_it_is_optional(posts, capsys):
    words = ["train", "--plugin", str(TWO_INPUTS), "--config=c.yaml", "--save_dir=ck", "--epoch=1"]
    rename_field("image", "imag")
    assert main(words) == 0
    assert (
        "no sample has the field image, so its input is masked; there are: imag, text"
        in capsys.readouterr().err
    )
    rename_field("text", "txt")
    assert main(words) == 2
    assert (
        "videotag train: post0 and all others: no field 'text'; there are: imag, txt; rename one, or "
        "set INPUTS.text.field\n" in capsys.readouterr().err
    )


def test_a_sample_without_a_field_that_others_have_is_named(posts, capsys):
    text = Path("posts.jsonl").read_text(encoding="utf-8")
    Path("posts.jsonl").write_text(text.replace('"text"', '"t"', 1), encoding="utf-8")
    assert main(["train", "--plugin", str(TWO_INPUTS), "--config=c.yaml", "--save_dir=ck"]) == 2
    assert (
        "videotag train: post0: no field 'text', which the model needs; add it, or leave the sample out\n"
        in capsys.readouterr().err
    )


def test_a_failure_of_a_field_names_its_sample(posts, capsys):
    videotag(TWO_INPUTS, "train", "--config=c.yaml", "--save_dir=ck", "--epoch=1")
    Path("p1.png").write_text("no picture", encoding="utf-8")
    assert main(["predict", "--plugin", str(TWO_INPUTS), "--weights=ck", "--save_dir=out"]) == 1
    assert "\npost1: p1.png: not a readable picture; check the list\n" in capsys.readouterr().err


def test_an_evaluation_of_no_readable_sample_is_an_error_and_no_epoch_is_the_best_by_one(posts, capsys):
    Path("bad.png").write_text("no picture", encoding="utf-8")
    Path("bad.jsonl").write_text('{"image": "bad.png", "text": "a", "labels": [1]}\n', encoding="utf-8")
    words = ["--plugin", str(TWO_INPUTS), "--config=c.yaml", "--save_dir=ck", "--epoch=1"]
    assert main(["train", *words, "--set=VALID.filelist=bad.jsonl"]) == 1
    assert (
        "VALID.filelist: no labeled video can be read; this epoch is not compared" in capsys.readouterr().err
    )
    assert not list(Path("ck").glob("*_best*"))
    words = ["--plugin", str(TWO_INPUTS), "--weights=ck", "--save_dir=out", "--set=TEST.filelist=bad.jsonl"]
    assert main(["eval", *words]) == 2
    assert (
        "videotag eval: bad.jsonl: no video can be read; correct the list\nbad.jsonl:1: bad.png: not "
        in capsys.readouterr().err
    )
    assert not Path("out/metrics.json").exists()


def test_a_model_that_needs_more_than_a_video_does_not_tag_one(posts, capsys):
    videotag(TWO_INPUTS, "train", "--config=c.yaml", "--save_dir=ck", "--epoch=1")
    assert main(["tag", "--plugin", str(TWO_INPUTS), "p0.png", "--predictor_weights=ck"]) == 2
    assert (
        "TwoInputs reads image, text, which no extractor returns; list its samples in a .jsonl file and run "
        "`videotag predict`\n" in capsys.readouterr().err
    )


TEXTS = """
import numpy as np
from paddle import nn
from videotag.inputs.reader import Reader
from videotag.registry import LOGITS, ArraySpec, register_model, register_reader
from videotag.sections import InputOptions, ModelSection

@register_reader("lengths", options=InputOptions)
class LengthReader(Reader):
    def specs(self):
        return [ArraySpec("text", (None, 1))]

    def read(self, field, rng):
        return len(field)

    def collate(self, samples):
        return {"text": np.array(samples, np.float32)[:, None]}

class LengthConfig(ModelSection):
    default_readers = ("lengths",)

    def default_inputs(self):
        return {"text": {"reader": "lengths"}}

@register_model("Lengths", config=LengthConfig, task="multi_label")
class Lengths(nn.Layer):
    def __init__(self, config):
        super().__init__()
        self.inputs = (ArraySpec("text", (None, 1)),)
        self.outputs = (LOGITS,)
        self.output = nn.Linear(1, config.num_classes)

    def forward(self, inputs):
        return {LOGITS: self.output(inputs["text"])}
"""


def train_on_texts(plugin):
    """Trains with a plugin on three texts; returns the exit code."""
    lines = [json.dumps({"id": f"post{n}", "text": "a" * n, "labels": [0]}) for n in range(3)]
    Path("texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    Path("texts.py").write_text(plugin, encoding="utf-8")
    write_config("c.yaml", {"name": "Lengths"}, TRAIN={"filelist": "texts.jsonl", "epoch": 1})
    return main(["train", "--plugin=texts.py", "--config=c.yaml", "--save_dir=ck"])


def test_the_plugin_that_the_next_test_breaks_works(work_dir):
    assert train_on_texts(TEXTS) == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('task="multi_label"', 'task="multi"', r"texts\.py:\d+: ValueError: .* task 'multi', expected"),
        ("config=LengthConfig", "config=dict", r"texts\.py:\d+: TypeError: dict is not a subclass of"),
        ('"Lengths"', '"meanpool"', r"texts\.py:\d+: ValueError: model 'meanpool' is registered twice"),
        ("(Reader)", "", r"texts\.py:\d+: TypeError: LengthReader is not a subclass of .*\.Reader"),
        ("def read(", "def reads(", r"texts\.py:\d+: TypeError: LengthReader lacks the method read\(self"),
        ("field, rng", "field", r"texts\.py:\d+: TypeError: LengthReader\.read is called as read\("),
        ("self, inputs", "self, x, mask", r"texts\.py:\d+: TypeError: Lengths\.forward is called as"),
        ("__init__(self, config)", "__init__(self)", r"texts\.py:\d+: TypeError: Lengths\.__init__ is"),
        ("class Lengths(nn.Layer)", "class Lengths", r"TypeError: Lengths is not a subclass of paddle"),
        (
            "def specs",
            "def check(self, fields): pass\n\n    def specs",
            r"LengthReader\.check returned None; r",
        ),
        ('[ArraySpec("text", (None, 1))]', '["text"]', r"LengthReader\.specs returned \['text'\]; return a"),
        (
            'self.output(inputs["text"])',
            "[[1, 2, 3]]",
            r"returned logits as \[\[1, 2, 3\]\]; return a float tensor",
        ),
        ('inputs["text"])}', 'inputs["text"]).numpy()}', r"returned logits as array\(.*; return a float t"),
        ('inputs["text"])}', 'inputs["text"]).detach()}', r"Lengths\.forward returned logits without a grad"),
        (
            "def collate",
            "def collate(self, samples): raise OSError(2, 'x')\n\n    def c",
            r"texts\.py:\d+: FileNo",
        ),
        ("(None, 1))]", "None)]", r"texts\.py:\d+: ValueError: array 'text': shape None, expected sizes"),
        ("np.float32)", "np.uint8)", r"collate returned 'text' as \(3, 1\) uint8 for 3 samples, but specs"),
        ("def forward", "def run", r"texts\.py:\d+: TypeError: Lengths lacks the method forward\(self"),
        ('return {"text": {', "return [{", r"model Lengths: default_inputs\(\) returned \[.*; return"),
        ("self.inputs = ", "inputs = ", r"model Lengths: self\.inputs is None; set it in __init__"),
        ("self.outputs = (LOGITS,)", "self.outputs = LOGITS", r"self\.outputs is 'logits'; set it"),
        ("(LOGITS,)", '("text", LOGITS)', r"model Lengths: self\.outputs is .*; name 'logits' first"),
        ("(None, 1)),)", '(None, 1), "f4"),)', r"texts\.py:\d+: ValueError: array 'text': dtype 'f4'"),
        ("return {LOGITS: self", "return (self", r"Lengths\.forward returned a Tensor; return a dict"),
        ("{LOGITS: self", '{"a": self', r"Lengths\.forward returned \['a'\] without 'logits'"),
        ("config.num_classes", "9", r"returned logits of shape \(3, 9\), expected \(3, 3\) as MODEL"),
        ('["text"])}', '["text"][:2])}', r"returned logits of shape \(2, 3\) for 3 samples; return"),
        ('{"text": np', '{"texts": np', r"collate returned \['texts'\], without an array 'text'"),
        ('return {"text": np', 'return 5, {"text": np', r"collate returned a tuple; return a dict"),
        ("[:, None]", "", r"collate returned 'text' as \(3\) float32 for 3 samples, but specs\(\) decl"),
        ("(samples, np", "(samples[1:], np", r"collate returned 'text' as \(2, 1\) float32 for 3"),
        ("np.float32", "np.float64", r"collate returned 'text' as \(3, 1\) float64 for 3 samples"),
        ("len(field)", "1 // (len(field) - 1)", r"texts\.py:\d+: ZeroDiv.*, on sample post1; correct"),
        ("return {LOGITS", "exit(0); return {LOGITS", r"texts\.py:\d+: SystemExit: 0; correct the plug"),
        ("return {LOGITS", "1 / 0; return {LOGITS", r"texts\.py:\d+: ZeroDivisionError: .*; correct"),
    ],
)
def test_a_mistake_in_a_plugin_is_told_in_one_line(work_dir, capsys, old, new, message):
    assert TEXTS.count(old) == 1
    broken = TEXTS.replace(old, new)
    if "return [{" in new:
        broken = broken.replace('"lengths"}}', '"lengths"}]')
    if "return (self" in new:
        broken = broken.replace('"])}', '"]))')
    assert train_on_texts(broken) == 2
    assert re.search(rf"^videotag train: .*{message}", capsys.readouterr().err, re.MULTILINE)


def test_a_broken_pipe_in_a_plugin_is_not_that_of_the_output(work_dir, capsys):
    assert train_on_texts(TEXTS.replace("return {LOGITS", "raise BrokenPipeError; return {LOGITS")) == 2
    assert re.search(r"texts\.py:\d+: BrokenPipeError: ; correct the plugin", capsys.readouterr().err)


def test_a_probability_that_is_not_a_number_names_its_sample(work_dir, capsys):
    assert train_on_texts(TEXTS) == 0
    path = Path("texts.py")
    path.write_text(TEXTS.replace('inputs["text"])}', 'inputs["text"].log() * 0)}'), encoding="utf-8")
    del sys.modules["videotag_plugin_texts"]
    for registry in _REGISTRIES:
        registry.entries = {key: entry for key, entry in registry.entries.items() if entry.plugin != "texts"}
    words = ["--plugin=texts.py", "--weights=ck", "--filelist=texts.jsonl", "--save_dir=out"]
    assert main(["predict", *words, "--backend=paddle", "--precision=f32"]) == 1
    err = capsys.readouterr().err
    assert "failed: 1 of 3\npost0: a probability is nan; check the sample for NaN" in err
    assert [name for name, _ in predictions("out")] == ["post1", "post2"]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ("mask[:, :1]", r"'text\.mask' of shape \(4, 1\) for a sequence \(4, 4\); give the mask its fir"),
        ("mask[:, ::-1]", r"'text\.mask' with real steps after padding; put the real steps first"),
    ],
)
def test_masks_cover_the_first_steps(posts, capsys, mask, message):
    text = TWO_INPUTS.read_text(encoding="utf-8").replace("name + MASK: mask}", f"name + MASK: {mask}}}")
    Path("two_inputs.py").write_text(text, encoding="utf-8")
    assert main(["train", "--plugin=two_inputs.py", "--config=c.yaml", "--save_dir=ck"]) == 2
    assert re.search(f"TokenReader.collate returned {message}", capsys.readouterr().err)


def test_a_vocabulary_larger_than_the_model_s_is_told_before_work(posts, capsys):
    words = ["--plugin", str(TWO_INPUTS), "--config=c.yaml", "--save_dir=ck"]
    assert main(["train", *words, "--set=INPUTS.text.vocabulary=2000"]) == 2
    assert (
        "INPUTS.text: values below 2000, but TwoInputs takes values below 100; correct its options, or MODEL"
        in capsys.readouterr().err
    )


def test_an_export_of_a_model_that_ignores_an_input_says_which_rule_it_breaks(posts, capsys):
    used = 'masked_mean(self.picture(pixels), inputs["image" + MASK])'
    text = TWO_INPUTS.read_text(encoding="utf-8").replace(used, "self.picture(pixels).mean(1)")
    Path("two_inputs.py").write_text(text, encoding="utf-8")
    videotag("two_inputs.py", "train", "--config=c.yaml", "--save_dir=ck", "--epoch=1")
    assert main(["export", "--plugin=two_inputs.py", "--weights=ck", "--to=paddle"]) == 2
    assert (
        "forward does not use all inputs (image, image.mask, text, text.mask); use each, or leave it out of "
        "self.inputs" in capsys.readouterr().err
    )


def test_a_media_error_of_a_reader_skips_its_sample(work_dir, capsys):
    raises = "if not field: raise MediaError('post0: no words; correct the list')\n        return len"
    plugin = TEXTS.replace("return len", raises)
    assert train_on_texts(f"from videotag.errors import MediaError\n{plugin}") == 1
    (line,) = Path("ck/failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["video_id"] == "post0"


def test_a_plugin_before_the_command_is_told_its_place(capsys):
    assert main(["--plugin", "a.py", "models"]) == 2
    assert "; flags stand behind the command; see videotag --help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "INPUTS.frames.width=20",
            r"INPUTS\.frames: reader tiny_frames makes \(any, any, 24, 20, 3\) uint8, but RawGRU takes "
            r"\(any, any, 24, 32, 3\) uint8; correct its options, or MODEL",
        ),
        ("INPUTS.more={reader: tiny_frames}", r"INPUTS\.more: RawGRU has no such input; leave it out"),
        (
            "INPUTS.frames={reader: frames}",
            r"INPUTS\.frames: reader frames makes \(any, 6, 40, 40, 3\) uint8, but RawGRU takes .*\n"
            r"INPUTS\.frames: no reader makes frames\.mask, which RawGRU takes; add it",
        ),
    ],
)
def test_inputs_that_do_not_fit_the_model_are_told_before_work(films, capsys, override, message):
    words = ["--plugin", str(RAW_GRU), "--config=c.yaml", "--save_dir=ck", f"--set={override}"]
    assert main(["train", *words]) == 2
    assert re.search(rf"^videotag train: {message}$", capsys.readouterr().err, re.MULTILINE)
    assert not Path("ck/RawGRU.pdparams").exists()


def test_inputs_that_fit_the_model_no_more_are_told_before_evaluation(films, capsys):
    videotag(RAW_GRU, "train", "--config=c.yaml", "--save_dir=ck", "--epoch=1")
    for command in ("eval", "predict"):
        words = ["--plugin", str(RAW_GRU), "--weights=ck", "--save_dir=x", "--set=INPUTS.frames.height=20"]
        assert main([command, *words]) == 2
        assert "makes (any, any, 20, 32, 3) uint8, but RawGRU takes (any, any, 24" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.py", None, r"gone\.py: no such plugin; give a Python file"),
        ("text.txt", "x = 1", r"text\.txt: not a Python file; rename it to text\.py if it is one"),
        ("empty.py", "x = 1", r"empty\.py: registers nothing; decorate a class with register_model"),
        ("wrong.py", "x = (", r"wrong\.py: SyntaxError: .*; correct the plugin"),
        ("fails.py", "\nraise KeyError('a')", r"fails\.py:2: KeyError: 'a'; correct the plugin"),
        ("exits.py", "raise SystemExit(0)", r"exits\.py:1: SystemExit: 0; correct the plugin"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_is_one_line(work_dir, name, content, message):
    load_models()
    if content is not None:
        Path(name).write_text(content, encoding="utf-8")
    with pytest.raises(PluginError, match=message):
        load_plugin(name)


REGISTERS = """
from videotag.inputs.frames import ClipReader
from videotag.registry import register_reader
from videotag.sections import InputOptions
register_reader("other", options=InputOptions)(type("Other", (ClipReader,), {}))
"""


def test_what_a_plugin_registered_before_it_failed_is_forgotten(work_dir):
    Path("a.py").write_text(REGISTERS + "raise KeyError", encoding="utf-8")
    with pytest.raises(PluginError):
        load_plugin("a.py")
    with pytest.raises(UnknownNameError, match="other: unknown reader"):
        get_reader("other")
    Path("a.py").write_text(REGISTERS, encoding="utf-8")
    load_plugin("a.py")
    assert get_reader("other").plugin == "a"


def test_readers_that_a_plugin_imports_are_videotag_s_own(work_dir):
    Path("a.py").write_text(REGISTERS, encoding="utf-8")
    program = (
        "from videotag.plugins import load_plugin; from videotag.registry import get_reader; "
        "load_plugin('a.py'); print(get_reader('frames').plugin, get_reader('other').plugin)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "None a\n", done.stderr


def test_readers_that_a_failing_plugin_imported_stay_registered(work_dir):
    Path("a.py").write_text(REGISTERS + "raise KeyError", encoding="utf-8")
    program = (
        "import contextlib; from videotag.errors import PluginError, UnknownNameError; "
        "from videotag.plugins import load_plugin; from videotag.registry import get_reader, list_readers\n"
        "with contextlib.suppress(PluginError): load_plugin('a.py')\n"
        "print([entry.name for entry in list_readers()])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "['frames']\n", done.stderr


def test_a_plugin_imports_files_beside_it_and_nobody_else_does(work_dir):
    Path("plugins").mkdir()
    Path("plugins/beside_it.py").write_text("NAME = 'other'", encoding="utf-8")
    text = REGISTERS.replace('"other"', "beside_it.NAME")
    Path("plugins/a.py").write_text(f"import beside_it\n{text}", encoding="utf-8")
    before = list(sys.path)
    load_plugin("plugins/a.py")
    del sys.modules["beside_it"]
    assert get_reader("other").plugin == "a"
    assert sys.path == before


def test_an_error_in_a_file_that_a_plugin_imports_is_the_plugin_s(work_dir, capsys):
    helper = TEXTS.replace("return {LOGITS", "1 / 0; return {LOGITS")
    Path("helper_of_texts.py").write_text(helper, encoding="utf-8")
    assert train_on_texts("import helper_of_texts") == 2
    del sys.modules["helper_of_texts"]
    assert re.search(r"helper_of_texts\.py:\d+: ZeroDivisionError: .*; correct", capsys.readouterr().err)


def test_what_the_package_imports_meanwhile_is_not_the_plugin_s(work_dir, monkeypatch):
    """A plugin may lie in the folder that contains the package."""
    Path("videotag").mkdir()
    Path("videotag/late.py").write_text("def fail(): raise KeyError", encoding="utf-8")
    monkeypatch.setattr("videotag.__path__", [*videotag_package.__path__, "videotag"])
    Path("a.py").write_text(f"import videotag.late\n{REGISTERS}", encoding="utf-8")
    load_plugin("a.py")
    late = sys.modules.pop("videotag.late")
    with pytest.raises(KeyError) as caught:
        late.fail()
    assert plugin_line(caught.value) is None


def test_forward_may_be_decorated_and_specs_static(work_dir):
    static = TEXTS.replace("    def specs(self):", "    @staticmethod\n    def specs():")
    decorated = static.replace("    def forward", "    @paddle.jit.to_static\n    def forward")
    assert train_on_texts(f"import paddle\n{decorated}") == 0


def test_a_config_records_the_plugin_of_its_backbone(work_dir):
    text = """
import paddle
from videotag.registry import register_backbone
from videotag.sections import Section

@register_backbone("tiny", config=Section)
class Tiny(paddle.nn.Layer):
    def __init__(self, config):
        super().__init__()

    def forward(self, images):
        return images.mean([2, 3])
"""
    Path("tiny_backbone.py").write_text(text, encoding="utf-8")
    Path("tsn.yaml").write_text("MODEL: {name: TSN, backbone: tiny}", encoding="utf-8")
    load_models()
    with pytest.raises(ConfigError, match=r"tiny is not a backbone; .*give --plugin FILE\.py$"):
        load_config("tsn.yaml")
    load_plugin("tiny_backbone.py")
    assert load_config("tsn.yaml").plugins == ["tiny_backbone"]


def test_two_plugins_of_one_name_are_an_error_and_one_given_twice_is_not(work_dir):
    for folder in ("one", "two"):
        Path(folder).mkdir()
        Path(folder, "a.py").write_text(REGISTERS, encoding="utf-8")
    load_plugin("one/a.py")
    load_plugin(Path("one/../one/a.py").absolute())
    with pytest.raises(PluginError, match=r"^two/a\.py: a plugin of this name is .*; rename one of the two"):
        load_plugin("two/a.py")


@pytest.fixture
def installed(work_dir, monkeypatch):
    """installed(code): as if a package with a plugin of this code had been installed."""
    load_installed.cache_clear()
    monkeypatch.syspath_prepend(work_dir)

    def install(code):
        Path("own_package.py").write_text(code, encoding="utf-8")
        Path("own_package-1.0.dist-info").mkdir()
        for name, text in (
            ("METADATA", "Metadata-Version: 2.1\nName: own-package\nVersion: 1.0\n"),
            ("entry_points.txt", "[videotag.plugins]\nown = own_package\n"),
        ):
            Path("own_package-1.0.dist-info", name).write_text(text, encoding="utf-8")

    yield install
    sys.modules.pop("own_package", None)
    load_installed.cache_clear()


def test_an_installed_package_s_plugin_needs_no_flag(installed):
    installed(REGISTERS)
    load_models()
    assert get_reader("other").plugin == "own"


@pytest.mark.parametrize("statement", ["raise KeyError('x')", "raise SystemExit(0)"])
def test_an_installed_plugin_that_fails_is_one_line(installed, statement, capsys):
    installed(REGISTERS + statement)
    assert main(["models"]) == 2
    assert re.fullmatch(
        r"videotag models: plugin own of an installed package: \w+: .*; update or uninstall it\n",
        capsys.readouterr().err,
    )


def test_a_model_of_a_plugin_is_loaded_by_python_code_too(films, capsys):
    videotag(RAW_GRU, "train", "--config=c.yaml", "--save_dir=ck", "--epoch=1")
    model = TrainedModel.load("ck", overrides=[("INFER.backend", "paddle"), ("INFER.precision", "f32")])
    arrays = random_samples(model.inputs)[1]
    assert model.run(arrays)[LOGITS].shape == (4, 3)
    assert stage_of("ck") == "predictor", "it reads frames itself"
    capsys.readouterr()
