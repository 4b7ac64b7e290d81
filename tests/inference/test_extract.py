"""Lists of videos to feature files: mirrored, resumable, nothing half-written; and one video by itself."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

from videotag.system.quiet_paddle import paddle

import numpy as np
import pytest
from PIL import Image

from videotag.config import load_config
from videotag.errors import MediaError, OutputError, WeightsError
from videotag.formats.feature_files import read_stamp
from videotag.formats.filelist import ListEntry, read_filelist
from videotag.formats.weight_files import read_weights, write_pdparams
from videotag.inference.extract import ExtractJob
from videotag.inference.extractor import load_extractor
from videotag.inference.frozen_runtime import RUNTIME_FILE
from videotag.inference.jobs import run_job
from videotag.inference.outputs import Destination, plan_outputs
from videotag.inputs.frames import read_frames
from videotag.media.decode_pool import Stopped
from videotag.media.transforms import normalize
from videotag.media.writer import write_video
from videotag.system.folder_lock import LOCK_FILE
from videotag.training.checkpoint import save_weights
from videotag.weights import FoundWeights


@pytest.fixture(scope="module")
def extractor(tsn_dir):
    return load_extractor(
        load_config(tsn_dir / "tsn.yaml"), FoundWeights(tsn_dir / "tsn.pdparams"), with_classifier=True
    )


def make_video(path, num_frames=8, seed=0):
    rng = np.random.default_rng(seed)
    write_video(path, rng.integers(0, 255, (num_frames, 48, 64, 3), dtype=np.uint8), fps=8)
    return str(path)


def run(extractor, entries, save_dir):
    return run_job(ExtractJob(extractor), entries, Destination(save_dir, "out.list"))


def test_features_equal_the_networks_own_frame_by_frame(extractor, tsn_dir, work_dir):
    split = extractor.config.infer
    frames = read_frames(ListEntry(make_video(work_dir / "a.mp4")), split)
    features = extractor.features(frames)
    config = load_config(tsn_dir / "tsn.yaml")
    paddle.seed(0)
    network = config.entry.cls(config.model)
    network.eval()
    clip = frames.images[frames.rows]
    normalized = normalize(clip, config.model.image_mean, config.model.image_std)
    expected = network.backbone(paddle.to_tensor(normalized)).numpy()
    assert features.shape == (6, 512)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)
    logits = network({"frames": paddle.to_tensor(clip[None])})["logits"].numpy()[0]
    np.testing.assert_allclose(extractor.logits(features).mean(axis=0), logits, rtol=1e-3, atol=1e-4)


def test_a_short_video_fills_all_rows_and_each_frame_is_computed_once(extractor, work_dir):
    frames = read_frames(ListEntry(make_video(work_dir / "a.mp4", num_frames=2)), extractor.config.infer)
    assert frames.images.shape == (2, 32, 32, 3)
    assert frames.rows.tolist() == [0, 0, 0, 1, 1, 1]
    features = extractor.features(frames)
    assert features.shape == (6, 512)
    assert np.array_equal(features[0], features[2])
    assert not np.array_equal(features[2], features[3])


def test_features_that_are_no_numbers_are_a_failure_of_their_video(extractor, work_dir, monkeypatch):
    names = [make_video(f"{name}.mp4", seed=seed) for seed, name in enumerate("abc")]
    rows = extractor._rows
    calls = []

    def broken(images):
        calls.append(images)
        found = rows(images)
        return np.full_like(found, bad) if (bad := {1: np.nan, 2: np.inf}.get(len(calls))) else found

    monkeypatch.setattr(extractor, "_rows", broken)
    summary = run(extractor, [ListEntry(name) for name in names], Path("out"))
    assert list(summary.failed) == names[:2]
    assert summary.failed["a.mp4"].startswith("a.mp4: the network returns NaN or infinite features; ")
    assert sorted(path.name for path in Path("out").glob("*.npy")) == ["c.npy"]


def test_decoding_stops_when_told(extractor, work_dir):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        read_frames(ListEntry(make_video(work_dir / "a.mp4")), extractor.config.infer, stop=stop)


def test_a_classifier_for_other_classes_is_left_where_only_features_are_wanted(tsn_dir, work_dir, extractor):
    state = dict(read_weights(tsn_dir / "tsn.pdparams"))
    state["fc.weight"], state["fc.bias"] = np.zeros((512, 1000), np.float32), np.zeros(1000, np.float32)
    write_pdparams("imagenet.pdparams", state)
    config = load_config(tsn_dir / "tsn.yaml")
    frames = read_frames(ListEntry(make_video(work_dir / "a.mp4")), config.infer)
    features = load_extractor(config, FoundWeights(Path("imagenet.pdparams"))).features(frames)
    np.testing.assert_array_equal(features, extractor.features(frames))
    with pytest.raises(WeightsError, match=r"fc.weight: shape \(512, 1000\), expected \(512, 3\)"):
        load_extractor(config, FoundWeights(Path("imagenet.pdparams")), with_classifier=True)


@pytest.mark.parametrize("path", [".", "/", "a/.."])
def test_a_line_that_names_no_file_is_a_line_of_the_error(work_dir, path):
    with pytest.raises(OutputError, match="names no file; correct the list"):
        plan_outputs([path, "/v/b.mp4"], work_dir, Path("/"))


def test_names_with_wide_blanks_are_names(work_dir):
    assert plan_outputs(["猫\u3000犬.mp4"], work_dir) == {"猫\u3000犬.mp4": work_dir / "猫\u3000犬.npy"}


def test_weights_without_a_classifier_extract_but_do_not_classify(tsn_dir, work_dir):
    config = load_config(tsn_dir / "tsn.yaml")
    network = config.entry.cls(config.model)
    save_weights(network.backbone, work_dir / "backbone.pdparams")
    load_extractor(config, FoundWeights(work_dir / "backbone.pdparams"))
    with pytest.raises(WeightsError, match=r"fc\.weight: missing"):
        load_extractor(config, FoundWeights(work_dir / "backbone.pdparams"), with_classifier=True)


def test_outputs_mirror_inputs_and_labels_are_carried_into_the_list(extractor, work_dir):
    entries = [
        ListEntry(make_video(work_dir / "in" / "one" / "a.mp4"), (2, 0)),
        ListEntry("in/b c.mp4", (1,)),
    ]
    make_video(work_dir / "in" / "b c.mp4")
    entries[0] = ListEntry("in/one/a.mp4", (2, 0))
    summary = run(extractor, entries, work_dir / "out")
    assert (summary.written, summary.kept, summary.failed) == (2, 0, {})
    assert np.load(work_dir / "out" / "in" / "one" / "a.npy").shape == (6, 512)
    listed = read_filelist(summary.list_path)
    assert [entry.label_ids for entry in listed] == [(2, 0), (1,)]
    assert listed[1].path == str(work_dir / "out" / "in" / "b c.npy")
    stamp = read_stamp(listed[0].path)
    assert stamp["extractor"] == "TSN/resnet18"
    assert (stamp["seg_num"], stamp["short_size"], stamp["target_size"]) == (6, 40, 32)


def test_a_second_run_keeps_what_is_there_and_repeats_what_changed(extractor, tsn_dir, work_dir):
    entries = [ListEntry("a.mp4"), ListEntry("b.mp4")]
    for seed, entry in enumerate(entries):
        make_video(work_dir / entry.path, seed=seed)
    out = work_dir / "out"
    run(extractor, entries, out)
    assert run(extractor, entries, out).kept == 2

    make_video(work_dir / "b.mp4", num_frames=9, seed=7)  # another video
    (out / "a.npy").write_bytes((out / "a.npy").read_bytes()[:100])  # a damaged result
    assert run(extractor, entries, out).written == 2

    other = load_config(tsn_dir / "tsn.yaml", overrides=[("INFER.seg_num", 5)])  # another sampling
    assert run(load_extractor(other, FoundWeights(tsn_dir / "tsn.pdparams")), entries, out).written == 2
    assert np.load(out / "a.npy").shape == (5, 512)

    config = load_config(tsn_dir / "tsn.yaml")  # other weights
    paddle.seed(1)
    save_weights(config.entry.cls(config.model), work_dir / "new.pdparams")
    assert run(load_extractor(config, FoundWeights(work_dir / "new.pdparams")), entries, out).written == 2


def test_failures_are_listed_and_the_rest_goes_on(extractor, work_dir, caplog):
    (work_dir / "broken.mp4").write_bytes(b"no video")
    make_video(work_dir / "good.mp4")
    entries = [ListEntry("missing.mp4", (1,)), ListEntry("broken.mp4", (1,)), ListEntry("good.mp4", (2,))]
    summary = run(extractor, entries, work_dir / "out")
    assert summary.written == 1
    assert sorted(summary.failed) == ["broken.mp4", "missing.mp4"]
    lines = (work_dir / "out" / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["video_id"] for r in records] == ["missing.mp4", "broken.mp4"]
    assert all(r["retriable"] is False and r["error"] for r in records)
    assert [e.label_ids for e in read_filelist(summary.list_path)] == [(2,)]
    for entry in entries[:2]:
        make_video(work_dir / entry.path)
    assert run(extractor, entries, work_dir / "out").failed == {}
    assert not (work_dir / "out" / "failures.jsonl").exists(), "what failed before has worked now"


def test_nothing_half_written_is_left_when_a_run_breaks_off(extractor, work_dir, monkeypatch):
    entries = [ListEntry(f"{i}.mp4") for i in range(3)]
    for entry in entries:
        make_video(work_dir / entry.path)
    calls = iter(range(9))
    rows = extractor._rows

    def fail_second(images):
        if next(calls) == 1:  # each video fits into one batch
            raise KeyboardInterrupt
        return rows(images)

    with monkeypatch.context() as patch:
        patch.setattr(extractor, "_rows", fail_second)
        with pytest.raises(KeyboardInterrupt):
            run(extractor, entries, work_dir / "out")
    assert sorted(p.name for p in (work_dir / "out").iterdir()) == [LOCK_FILE, "0.npy", RUNTIME_FILE]
    summary = run(extractor, entries, work_dir / "out")
    assert (summary.written, summary.kept) == (2, 1)


def test_a_video_cut_short_is_extracted_with_a_warning(extractor, work_dir):
    import av

    frames = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    with av.open("a.mkv", "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode(None))
    data = (work_dir / "a.mkv").read_bytes()
    (work_dir / "a.mkv").write_bytes(data[: len(data) // 2])
    summary = run(extractor, [ListEntry("a.mkv")], work_dir / "out")
    assert summary.written == 1
    assert "of 20 frames" in summary.partial["a.mkv"]
    again = run(extractor, [ListEntry("a.mkv")], work_dir / "out")
    assert (again.kept, again.partial) == (1, summary.partial), "said again as long as the list holds it"


def test_an_unwritable_place_is_an_output_error(extractor, work_dir):
    (work_dir / "file").write_text("")
    make_video(work_dir / "a.mp4")
    with pytest.raises(OutputError, match=r"file: cannot write"):
        run(extractor, [ListEntry("a.mp4")], work_dir / "file")


@pytest.mark.parametrize(
    ("paths", "root", "outputs"),
    [
        (["a.mp4", "x/b.webm"], None, ["a.npy", "x/b.npy"]),
        (["./a.mp4", "x/../b.mp4"], None, ["a.npy", "b.npy"]),
        (["/v/x/a.mp4", "/v/y/a.mp4"], None, ["x/a.npy", "y/a.npy"]),
        (["/v/x/a.mp4"], "/v", ["x/a.npy"]),
        (["/v/x/a.mp4"], None, ["a.npy"]),
        (["../w/a.mp4", "../a.mp4"], None, ["w/a.npy", "a.npy"]),
        (["a.mp4", "a.mp4"], None, ["a.npy"]),
        (["a.b.mp4"], None, ["a.b.npy"]),
    ],
)
def test_outputs_are_planned_below_save_dir(work_dir, paths, root, outputs):
    plan = plan_outputs(paths, work_dir / "out", root)
    assert [p.relative_to(work_dir / "out").as_posix() for p in plan.values()] == outputs
    assert all(".." not in p.parts for p in plan.values())


def test_collisions_and_paths_outside_the_root_are_named_before_work(work_dir):
    with pytest.raises(OutputError) as caught:
        plan_outputs(["a.mp4", "a.webm", "/elsewhere/b.mp4"], work_dir, "/v")
    lines = str(caught.value).split("\n")
    assert "/elsewhere/b.mp4: lies outside --root /v" in lines[0]
    assert "a.webm: would write" in lines[1]
    assert "the output of a.mp4; rename one of the two" in lines[1]


def test_a_missing_video_is_a_media_error(extractor):
    with pytest.raises(MediaError, match=r"nowhere.mp4: no such file"):
        read_frames(ListEntry("nowhere.mp4"), extractor.config.infer)


def test_a_video_listed_twice_is_decoded_once_and_both_lines_stay(extractor, work_dir):
    make_video(work_dir / "a.mp4")
    entries = [ListEntry("a.mp4", (2,)), ListEntry("none.mp4", (1,)), ListEntry("a.mp4", (0, 1))]
    entries.append(ListEntry("none.mp4"))
    summary = run(extractor, entries, work_dir / "out")
    assert (summary.written, summary.kept, list(summary.failed)) == (1, 0, ["none.mp4"])
    assert [entry.label_ids for entry in read_filelist(summary.list_path)] == [(2,), (0, 1)]
    failures = (work_dir / "out" / "failures.jsonl").read_text(encoding="utf-8")
    assert len(failures.splitlines()) == 1


def frame_folder(folder, num_frames=8, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(1, num_frames + 1):
        picture = Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
        picture.save(folder / f"img_{number:05d}.jpg")


def test_features_of_frames_are_made_again_when_a_picture_or_their_number_changes(extractor, work_dir):
    frame_folder(work_dir / "take.1")
    frame_folder(work_dir / "take.2")
    entries = [ListEntry("take.1", (1,), counts=(8,)), ListEntry("take.2", (0,), counts=(8,))]
    out = work_dir / "out"
    assert run(extractor, entries, out).written == 2
    assert sorted(path.name for path in out.glob("*.npy")) == ["take.1.npy", "take.2.npy"]
    assert run(extractor, entries, out).kept == 2
    before = np.load(out / "take.1.npy")
    with (work_dir / "take.1" / "img_00005.jpg").open("r+b") as file:  # in place: the folder's time stays
        other = io.BytesIO()
        Image.new("RGB", (64, 48), "red").save(other, "JPEG")
        file.truncate()
        file.write(other.getvalue())
    summary = run(extractor, entries, out)
    assert (summary.written, summary.kept) == (1, 1)
    assert not np.array_equal(np.load(out / "take.1.npy"), before)
    entries[1] = ListEntry("take.2", (0,), counts=(4,))
    assert run(extractor, entries, out).written == 1
