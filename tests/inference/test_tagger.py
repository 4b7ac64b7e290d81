"""Both stages in one object, from Python."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

import videotag
from videotag.config import load_config
from videotag.errors import ClosedError, ConfigError, DecoderLostError, LabelFileError, MediaError, ShapeError
from videotag.inference.export import export_model
from videotag.inference.frame_tagging import FrameTagger, TagOptions
from videotag.inference.tagger import Tagger, TagResult
from videotag.inference.trained_model import TrainedModel
from videotag.inference.weights_stage import stage_of
from videotag.inputs.frames import Frames
from videotag.labels import load_imagenet_names
from videotag.media import decode_pool
from videotag.media.writer import write_video
from videotag.models import load_models, paddle
from videotag.reports.model_card import model_card
from videotag.runtime.choice import RuntimeRequest
from videotag.training.checkpoint import save_weights, write_config_and_labels

load_models()

TAGGER_YAML = """
MODEL: {name: AttentionLSTM, feature_dims: [1280], embedding_size: 8, lstm_size: 4, fc_sizes: [8, 8],
        num_classes: 3, topk: 2}
"""


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    rng = np.random.default_rng(0)
    write_video(path, rng.integers(0, 255, (30, 64, 80, 3), dtype=np.uint8), fps=10)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder with a tiny tagger's weights, config and labels."""
    folder = tmp_path_factory.mktemp("ck")
    (folder / "t.yaml").write_text(TAGGER_YAML, encoding="utf-8")
    config = load_config(folder / "t.yaml")
    paddle.seed(0)
    save_weights(config.entry.cls(config.model), folder / "AttentionLSTM.pdparams")
    write_config_and_labels(folder, config, ["one", "two", "three"])
    return folder


@pytest.fixture(scope="module")
def default_tagger():
    return Tagger.load(segment_sec=1.0, overrides=[("INFER.seg_num", 12)])


def test_tagger_and_result_come_from_the_package_on_demand():
    assert videotag.Tagger is Tagger
    assert videotag.TagResult is TagResult
    code = "import sys, videotag; assert 'paddle' not in sys.modules; videotag.Nothing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "has no attribute 'Nothing'" in done.stderr


def test_the_default_names_five_of_imagenets_things_for_the_video_and_its_segments(default_tagger, video):
    result = default_tagger.tag(video)
    assert result.path == str(video)
    assert len(result.tags) == 5
    probabilities = [tag.probability for tag in result.tags]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1
    assert result.duration_sec == pytest.approx(3.0)
    spans = [(s.start_sec, s.end_sec) for s in result.segments]
    assert np.allclose(spans, [(0, 1), (1, 2), (2, 3)])
    assert result.attention == {}
    assert result.warning is None


def test_a_video_of_one_thing_has_the_same_tags_in_every_segment(default_tagger, tmp_path):
    frame = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "still.mp4", [frame] * 20, fps=10)
    result = default_tagger.tag(tmp_path / "still.mp4")
    assert len(result.segments) == 2
    for segment in result.segments:
        assert [t.class_id for t in segment.tags] == [t.class_id for t in result.tags]


def test_two_stages_give_the_predictors_tags_and_its_attention(checkpoint, video):
    tagger = Tagger.load(predictor_weights=checkpoint, overrides=[("INFER.seg_num", 12)], segment_sec=1.0)
    result = tagger.tag(video)
    assert len(result.tags) == 2, "topk of the predictor's config"
    assert {tag.class_name for tag in result.tags} <= {"one", "two", "three"}
    assert result.attention["rgb"].shape == (12,)
    assert result.attention["rgb"].sum() == pytest.approx(1.0)
    assert [len(s.tags) for s in result.segments] == [2, 2, 2]
    as_json = result.to_dict()
    assert set(as_json) == {"video_id", "duration_sec", "tags", "segments", "attention", "warning"}


def test_weights_of_a_tagger_become_the_second_stage(checkpoint, video):
    options = {"overrides": [("INFER.seg_num", 12)], "segment_sec": 1.0}
    with (
        Tagger.load(weights=checkpoint, **options) as one,
        Tagger.load(predictor_weights=checkpoint, **options) as two,
    ):
        assert one.tag(video).to_dict() == two.tag(video).to_dict()


def test_weights_of_a_tsn_become_the_first_stage(tsn_dir, tmp_path, video):
    config = load_config(tsn_dir / "tsn.yaml")
    (tmp_path / "tsn.pdparams").write_bytes((tsn_dir / "tsn.pdparams").read_bytes())
    write_config_and_labels(tmp_path, config, ["a", "b", "c"])
    with Tagger.load(weights=tmp_path) as tagger:
        assert {tag.class_name for tag in tagger.tag(video).tags} == {"a", "b", "c"}
        assert not tagger.is_default
    assert stage_of(tmp_path) == "extractor"


def test_the_stage_of_an_export_is_found_out(checkpoint, tmp_path):
    export_model(
        [TrainedModel.load(checkpoint).sources[0]], tmp_path / "out", backend="onnx", card=model_card
    )
    assert stage_of(tmp_path / "out") == "predictor"
    assert stage_of("efficientnet_lite0_imagenet") == "extractor"


def test_chinese_names_belong_to_the_same_classes(default_tagger, video):
    with Tagger.load(
        weights="efficientnet_lite0_imagenet",
        language="zh",
        segment_sec=1.0,
        overrides=[("INFER.seg_num", 12)],
    ) as chinese:
        assert chinese.is_default
        found, expected = chinese.tag(video), default_tagger.tag(video)
    assert [tag.class_id for tag in found.tags] == [tag.class_id for tag in expected.tags]
    names = load_imagenet_names("zh")
    assert all(tag.class_name == names[tag.class_id] for tag in found.tags)


class ByBrightness(FrameTagger):
    """Scores three classes of each part by the brightness of its frames."""

    section = None

    def __init__(self, **options):
        self.options = TagOptions(["a", "b", "c"], 2, segment_sec=1.0, **options)

    def encode(self, videos):
        yield from videos

    def scores(self, prepared, parts):
        pieces = [prepared.images] + [prepared.images[a:b] for a, b in parts]
        return np.array([[p.mean(), 0.01, 0.0] for p in pieces], np.float32), {}


@pytest.mark.parametrize(("sure_from", "marked"), [(0.0, [False] * 3), (0.15, [False, True, False])])
def test_a_best_class_below_the_bound_is_marked_and_keeps_its_tags(sure_from, marked):
    images = np.repeat([0.1, 0.2], 4)
    frames = Frames(images, np.arange(8), 2.0, 2.0, None)
    (result,) = ByBrightness(sure_from=sure_from).results([("v", frames, False)])
    found = [item.not_sure for item in (result, *result.segments)]
    assert found == marked, "the video 0.15, its halves 0.1 and 0.2"
    assert len(result.segments[0].tags) == 2
    assert ["not_sure" in item.to_dict() for item in (result, *result.segments)] == marked


def test_tag_many_answers_in_order_and_gives_errors_in_place(default_tagger, video, tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no")
    first, second, third = default_tagger.tag_many([str(video), str(tmp_path / "no.mp4"), str(video)])
    assert isinstance(second, MediaError)
    assert first.to_dict() == third.to_dict()


def test_a_file_that_crashes_ffmpeg_is_an_error_and_the_next_one_is_tagged(default_tagger, video, tmp_path):
    path = tmp_path / "segfaults.mp4"
    path.write_bytes(video.read_bytes())
    expected = default_tagger.tag(video).tags
    with decode_pool.DecodePool() as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_pool, "READER", "faulty_reader:FaultyReader")
        patch.syspath_prepend(Path(__file__).parents[1] / "media")
        patch.setattr(default_tagger._predictor._shared, "_pool", pool)
        with pytest.raises(DecoderLostError, match=r"segfaults\.mp4: the decoder crashed"):
            default_tagger.tag(path)
    assert default_tagger.tag(video).tags == expected


def test_all_videos_are_decoded_in_one_child_that_ends_with_the_tagger(video):
    tagger = Tagger.load(overrides=[("INFER.seg_num", 2)])
    children = set()
    for source in (video, video.read_bytes(), video):
        tagger.features(source)
        (child,) = tagger._predictor._shared._pool._idle
        children.add(child)
    (child,) = children
    assert child.is_alive()
    del tagger
    assert not child.is_alive()


def test_bytes_and_open_files_are_tagged_like_the_file_itself(default_tagger, video, tmp_path):
    expected = default_tagger.tag(video).to_dict()
    content = video.read_bytes()
    for source in (content, bytearray(content), memoryview(content), io.BytesIO(content)):
        found = default_tagger.tag(source, name=str(video)).to_dict()
        assert found == expected
    with video.open("rb") as file:
        assert default_tagger.tag(file).to_dict() == expected  # an open file has the file's name
    (tmp_path / "behind.bin").write_bytes(b"header" + content)
    with (tmp_path / "behind.bin").open("rb") as file:
        file.seek(6)
        assert default_tagger.tag(file, name=str(video)).to_dict() == expected
    assert default_tagger.tag(content).path == "bytes"


def test_an_array_of_frames_is_tagged_like_a_lossless_video_of_them(default_tagger, tmp_path):
    frames = np.random.default_rng(2).integers(0, 255, (30, 64, 80, 3), dtype=np.uint8)
    with av.open(str(tmp_path / "a.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 80, 64, "bgr0"
        for image in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        file.mux(stream.encode(None))
    of_file, of_array = default_tagger.tag(tmp_path / "a.mkv"), default_tagger.tag(frames, fps=10)
    assert of_array.path == "frames"
    assert of_array.duration_sec == pytest.approx(of_file.duration_sec)
    assert [s.to_dict() for s in of_array.segments] == [s.to_dict() for s in of_file.segments]
    assert [t.class_id for t in of_array.tags] == [t.class_id for t in of_file.tags]
    # Frames of another layout in memory are the same frames.
    turned = np.asfortranarray(frames)
    assert default_tagger.tag(turned, fps=10).to_dict() == of_array.to_dict()


def test_features_are_those_that_extraction_writes(default_tagger, video):
    features = default_tagger.features(video)
    assert (features.shape, features.dtype) == ((12, 1280), np.float32)
    assert np.array_equal(default_tagger.features(video.read_bytes()), features)
    (frame,) = np.unique(default_tagger.features(np.zeros((1, 32, 32, 3), np.uint8), fps=25), axis=0)
    assert frame.shape == (1280,)


@pytest.mark.parametrize(
    ("source", "how", "error", "message"),
    [
        (np.zeros((3, 8, 8, 3), np.uint8), {}, ShapeError, "frames: fps is missing"),
        (
            np.zeros((3, 8, 8, 3), np.uint8),
            {"fps": 0},
            ShapeError,
            "frames: fps 0, expected frames per second",
        ),
        (np.zeros((3, 8, 8, 3)), {"fps": 5}, ShapeError, r"frames: float64 \(3, 8, 8, 3\), expected uint8"),
        (np.zeros((0, 8, 8, 3), np.uint8), {"fps": 5}, ShapeError, "with no dimension of 0"),
        ("a.mp4", {"fps": 5}, ConfigError, "a.mp4: fps 5 applies only to arrays"),
        ("a.mp4", {"fps": [[0] * 99] * 99}, ConfigError, r"fps \[\[0, 0, 0, 0, ...\], .* applies only"),
        (b"no video", {}, MediaError, r"^bytes: cannot be read as video"),
        (b"no video", {"name": "upload 7"}, MediaError, r"^upload 7: cannot be read as video"),
        (b"", {}, MediaError, r"^bytes: empty"),
        (
            io.StringIO("text"),
            {},
            MediaError,
            "file: expected a path, an array of frames, bytes, or a file opened as 'rb'",
        ),
        ([1, 2], {"fps": 5}, ShapeError, "file: a list; stack the frames into an array with np.stack"),
        (7, {}, MediaError, "file: expected a path, an array of frames, bytes, or a file opened as 'rb'"),
        (io.BytesIO(b""), {}, MediaError, "file: nothing left to read; seek to its beginning first"),
        (np.zeros((3, 8, 8, 3), np.uint8), {"fps": "25"}, ShapeError, "frames: fps '25', expected"),
    ],
)
def test_sources_of_other_kinds_are_refused_by_name(default_tagger, source, how, error, message):
    with pytest.raises(error, match=message):
        default_tagger.tag(source, **how)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"extractor_config": "configs/tsn.yaml"}, ConfigError, "--extractor_weights: missing"),
        ({"predictor_config": "configs/attention_lstm.yaml"}, ConfigError, "--predictor_weights: missing"),
        (
            {"extractor_config": "configs/attention_lstm.yaml", "extractor_weights": "CK"},
            ConfigError,
            "--extractor_config configs/attention_lstm.yaml: AttentionLSTM is not an extractor; name one of",
        ),
        ({"extractor_weights": "CK"}, ConfigError, "--extractor_weights /"),
        (
            {"predictor_weights": "CK", "predictor_config": "configs/tsn.yaml"},
            ConfigError,
            "is not a tagger; name one of",
        ),
        ({"predictor_weights": "CK", "predictor_config": "WIDE"}, ConfigError, "features of width 1280"),
        ({"predictor_weights": "CK", "label_file": "SHORT"}, LabelFileError, "3"),
        ({"top_k": 0}, ConfigError, "top_k: 0, expected at least 1"),
        ({"threshold": 5}, ConfigError, "threshold: 5, expected a probability in 0 to 1"),
        ({"segment_sec": -1}, ConfigError, "segment_sec: -1, expected seconds above 0"),
        ({"predictor_weights": "BARE"}, ConfigError, "no config.yaml beside the weights"),
        (
            {"weights": "BARE"},
            ConfigError,
            "so their model is unknown; put it there, or give --extractor_weights",
        ),
        ({"weights": "CK", "predictor_weights": "CK"}, ConfigError, "both are a tagger; give one of them"),
        (
            {"weights": "efficientnet_lite0_imagenet", "extractor_weights": "efficientnet_lite0_imagenet"},
            ConfigError,
            "both are an extractor; give one of them",
        ),
        (
            {"weights": "WIDE_CK"},
            ConfigError,
            "give the extractor that it was trained with by --extractor_weights",
        ),
        ({"language": "fr"}, ConfigError, "language: 'fr', expected one of en, zh"),
        ({"language": "zh", "weights": "CK"}, ConfigError, "names only the classes of the built-in ImageNet"),
        ({"language": "zh", "label_file": "SHORT"}, ConfigError, "names only the classes of the built-in"),
        (
            {"language": "en", "predictor_weights": "CK"},
            ConfigError,
            "names only the classes of the built-in",
        ),
    ],
)
def test_what_does_not_belong_together_is_said(checkpoint, tmp_path, options, error, message):
    (tmp_path / "wide.yaml").write_text(TAGGER_YAML.replace("1280", "2048"), encoding="utf-8")
    (tmp_path / "short.txt").write_text("one\n", encoding="utf-8")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "a.pdparams").write_bytes((checkpoint / "AttentionLSTM.pdparams").read_bytes())
    wide = load_config(tmp_path / "wide.yaml")
    save_weights(wide.entry.cls(wide.model), tmp_path / "wide_ck" / "AttentionLSTM.pdparams")
    write_config_and_labels(tmp_path / "wide_ck", wide, ["one", "two", "three"])
    places = {
        "CK": checkpoint,
        "WIDE_CK": tmp_path / "wide_ck",
        "WIDE": tmp_path / "wide.yaml",
        "SHORT": tmp_path / "short.txt",
        "BARE": tmp_path / "bare",
    }
    with pytest.raises(error) as caught:
        Tagger.load(**{name: places.get(value, value) for name, value in options.items()})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert Path(checkpoint).exists()


def test_the_end_of_a_with_block_finishes_requests_and_closes_a_tagger():
    with Tagger.load(precision="f32") as tagger:
        frames = np.zeros((4, 32, 32, 3), np.uint8)
        future = tagger.submit(frames, fps=4)
    assert future.result().tags
    with pytest.raises(ClosedError):
        tagger.tag(frames, fps=4)
    with pytest.raises(ClosedError):
        tagger.select_runtime(["a.mp4"])


def test_tag_many_of_a_tagger_that_is_closed_meanwhile_says_so(video):
    with Tagger.load(precision="f32") as tagger:
        results = tagger.tag_many([video] * 100)
        next(results)
        tagger.close(cancel=True)
        with pytest.raises(ClosedError, match="this Tagger or Predictor is closed; create a new one"):
            list(results)


def test_precision_is_selected_before_the_first_video_or_not_at_all(video, monkeypatch):
    with Tagger.load(precision="f32") as tagger:
        tagger.tag(np.zeros((4, 32, 32, 3), np.uint8), fps=4)
        monkeypatch.setattr(RuntimeRequest, "needs_sample", True)
        with pytest.raises(ConfigError, match="already selected; call it before `tag`"):
            tagger.select_runtime([str(video)])


FORKS = """
import os
import numpy as np
from videotag import Tagger
from videotag.errors import ClosedError
tagger, frames = Tagger.load(precision="f32"), np.zeros((4, 32, 32, 3), np.uint8)
tagger.tag(frames, fps=4)
child = os.fork()
try:
    if child:
        os.waitpid(child, 0)
    print(len(tagger.tag(frames, fps=4).tags), flush=True)
except ClosedError as error:
    print(error, flush=True)
    tagger.close()
finally:
    os._exit(0)
"""


def test_a_tagger_of_the_process_before_a_fork_says_so():
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=300)
    assert done.stdout == (
        "this Tagger or Predictor belongs to the process before the fork; create one in each process\n5\n"
    ), done.stderr


def test_one_path_is_not_taken_for_a_list_of_letters_and_an_empty_list_is_an_error(default_tagger):
    with pytest.raises(ConfigError, match=r"'a\.mp4': expected several paths"):
        next(default_tagger.tag_many("a.mp4"))
    with pytest.raises(ConfigError, match="expected several paths"):
        default_tagger.select_runtime("a.mp4")
    with pytest.raises(ConfigError, match="no videos"):
        default_tagger.select_runtime([])
