"""Folders of generated clips, and the command that makes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from videotag.cli.main import main
from videotag.datasets.clip_set import ClipSetOptions, assign_splits, write_clips
from videotag.errors import OutputError
from videotag.formats.filelist import read_filelist
from videotag.labels import read_labels
from videotag.media.synthetic import TAGS, random_specs
from videotag.media.video import FrameReader, probe

SMALL = ClipSetOptions(num_clips=10, fps=6, duration_sec=1.0, size_px=32)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_lists_labels_and_clips_match(work_dir):
    paths = write_clips(Path("out"), SMALL)
    assert paths == [Path("out/train.list"), Path("out/val.list"), Path("out/test.list")]
    assert tuple(read_labels("out/labels.txt")) == TAGS
    entries = [
        entry for path in paths for entry in read_filelist(path, num_classes=len(TAGS), labels="required")
    ]
    assert sorted(entry.path for entry in entries) == [f"out/clips/clip{i:05d}.mp4" for i in range(10)]
    specs = random_specs(10, SMALL.seed)
    for entry in entries:
        assert entry.label_ids == specs[int(Path(entry.path).stem[4:])].label_ids
        info = probe(entry.path)
        assert (info.width_px, info.height_px, info.num_frames) == (32, 32, 6)
        assert info.duration_sec == pytest.approx(1.0)


def test_clips_of_twins_decode_to_the_same_frames_in_reverse(work_dir):
    write_clips(Path("out"), SMALL)
    for index in (0, 2, 4):
        first, second = (
            np.stack([f.image for f in FrameReader(f"out/clips/clip{i:05d}.mp4", 6, short_side_px=32)])
            for i in (index, index + 1)
        )
        np.testing.assert_array_equal(first, second[::-1])


@pytest.mark.parametrize("num_clips", [2, 9, 60])
def test_twins_share_a_split(num_clips):
    splits = assign_splits(random_specs(num_clips, 0), (0.6, 0.2, 0.2))
    assert len(splits) == num_clips
    assert all(a == b for a, b in zip(splits[0::2], splits[1::2], strict=False))


def test_the_shares_of_the_splits_are_kept():
    splits = assign_splits(random_specs(60, 0), (0.6, 0.2, 0.2))
    assert [splits.count(name) for name in ("train", "val", "test")] == [36, 12, 12]
    splits = assign_splits(random_specs(20, 0), (1.0, 0.0, 0.0))
    assert splits == ["train"] * 20


def test_every_split_has_every_order_tag():
    specs = random_specs(60, 0)
    splits = assign_splits(specs, (0.6, 0.2, 0.2))
    for name in ("train", "val", "test"):
        changes = {s.change for s, split in zip(specs, splits, strict=True) if split == name}
        assert changes == {"size", "colour", "place"}


def test_equal_options_make_equal_files(work_dir):
    write_clips(Path("a"), SMALL)
    first = contents(work_dir / "a")
    (work_dir / "a").rename(work_dir / "kept")
    write_clips(Path("a"), SMALL)
    assert contents(work_dir / "a") == first


def test_an_interrupted_call_resumes(work_dir):
    out = Path("out")
    write_clips(out, SMALL)
    whole = contents(out)
    (out / "clips" / "clip00003.mp4").unlink()
    (out / "test.list").unlink()
    kept = out / "clips" / "clip00004.mp4"
    written = kept.stat().st_mtime_ns
    write_clips(out, SMALL)
    assert contents(out) == whole
    assert kept.stat().st_mtime_ns == written


def test_a_folder_of_other_clips_is_rejected(work_dir):
    write_clips(Path("out"), SMALL)
    before = contents(Path("out"))
    with pytest.raises(
        OutputError, match=r"out: has clips made with other options .*; choose another folder"
    ):
        write_clips(Path("out"), ClipSetOptions(num_clips=10, seed=1, fps=6, duration_sec=1.0, size_px=32))
    assert contents(Path("out")) == before
    Path("out/clips.json").unlink()
    with pytest.raises(OutputError, match=r"contains files although .*clips\.json is missing"):
        write_clips(Path("out"), SMALL)
    Path("out/clips.json").write_text("{", encoding="utf-8")
    with pytest.raises(OutputError, match="choose another folder"):
        write_clips(Path("out"), SMALL)


@pytest.mark.parametrize("name", ["with blank", 'quote"and blank', "tab\there"])
def test_paths_with_blanks_are_read_back(work_dir, name):
    options = ClipSetOptions(num_clips=2, fps=4, duration_sec=0.5, size_px=32, split=(1.0, 0.0, 0.0))
    train = write_clips(Path(name), options)[0]
    assert [entry.path for entry in read_filelist(train)] == [f"{name}/clips/clip0000{i}.mp4" for i in (0, 1)]


def test_sound_and_words_reach_the_files(work_dir):
    options = ClipSetOptions(num_clips=10, fps=4, duration_sec=0.5, size_px=32, tone=True, text=True)
    write_clips(Path("out"), options)
    for index, spec in enumerate(random_specs(10, 0, tone=True, text=True)):
        assert probe(f"out/clips/clip{index:05d}.mp4").has_audio == (spec.tone is not None)


def test_command_writes_and_says_where(work_dir, capsys):
    flags = "--num_clips 10 --seed 3 --duration_sec 0.5 --fps 4 --size 32 --tone --text --split 0.6,0.2,0.2"
    assert main(["make-clips", "out", *flags.split()]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "out/train.list: 6 clips",
        "out/val.list: 2 clips",
        "out/test.list: 2 clips",
        "out/labels.txt: class names",
    ]
    made = json.loads(Path("out/clips.json").read_text(encoding="utf-8"))
    assert (made["seed"], made["size_px"], made["tone"], made["split"]) == (3, 32, True, [0.6, 0.2, 0.2])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--num_clips 0", "'0' is not an integer of at least 1"),
        ("--fps 0", "'0' is not an integer of at least 1"),
        ("--seed -1", "'-1' is not an integer of at least 0"),
        ("--size 33", "--size 33: expected an even number of pixels from 16"),
        ("--size 8", "--size 8: expected an even number"),
        ("--size 99999999999999999998", "from 16 to 8192"),
        ("--num_clips 100001", "--num_clips 100001: expected at most 100000"),
        ("--split 0.5,0.2,0.2", "'0.5,0.2,0.2' is not three fractions that sum to 1"),
        ("--split 1.5,-0.5,0", "is not three fractions"),
        ("--split half,0,0", "is not three fractions"),
        ("--split nan,0,1", "is not three fractions"),
        ("--duration_sec 0.1", "--duration_sec 0.1 at --fps 12: a clip has 2 to 10000 frames"),
        ("--duration_sec nan", "a clip has 2 to 10000 frames"),
        ("--duration_sec inf", "a clip has 2 to 10000 frames"),
    ],
)
def test_bad_values_are_one_line_and_nothing_is_written(work_dir, capsys, flags, message):
    assert main(["make-clips", "out", *flags.split()]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not Path("out").exists()


def test_a_folder_whose_name_needs_quotes_is_read_back(work_dir):
    folder = Path('my "best" clips')
    paths = write_clips(folder, ClipSetOptions(num_clips=2, fps=6, duration_sec=1.0, size_px=32))
    entries = [e for path in paths if path.stat().st_size for e in read_filelist(path)]
    assert [e.path for e in entries] == [f"{folder}/clips/clip{i:05d}.mp4" for i in range(2)]
