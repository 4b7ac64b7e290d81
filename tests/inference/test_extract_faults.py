"""The whole extract command against hostile files, a full disk, a second run: one line each, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from faulty_reader import use_faulty_reader

from videotag.cli.main import main
from videotag.formats.filelist import read_filelist
from videotag.inference.extractor import Extractor
from videotag.media import decode_pool
from videotag.media.video import FrameReader
from videotag.system.atomic import PARTIAL_MARK
from videotag.system.folder_lock import folder_lock

ROOT = Path(__file__).resolve().parents[2]
DOUBLES = ROOT / "tests" / "media"  # faulty_reader.py
BOMB_SIDE_PX = 20_000


@pytest.fixture
def extract(tsn_dir, work_dir, monkeypatch):
    """extract(names, ...): the exit code of the command over a list of these videos into out/."""
    use_faulty_reader(monkeypatch)

    def run(names, *flags):
        Path("videos.list").write_text("".join(f"{name} 1\n" for name in names), encoding="utf-8")
        return main(["extract", *words(tsn_dir), *flags])

    return run


def words(tsn_dir):
    return [
        f"--config={tsn_dir}/tsn.yaml",
        f"--weights={tsn_dir}/tsn.pdparams",
        "--filelist=videos.list",
        "--save_dir=out",
    ]


def one_line(capsys):
    """What a run said that ended with an error: its last line of stderr, without a traceback."""
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


def leftovers():
    return [str(path) for path in Path("out").rglob(f"*{PARTIAL_MARK}*")]


def write_bomb(path, side_px=BOMB_SIDE_PX):
    """A small file whose header says 64 x 48, and whose frames are PNGs of side_px x side_px pixels."""

    def chunk(kind, data):
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((1 + side_px // 8) * side_px))
    header = struct.pack("!IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0)  # 1 bit per pixel
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    with av.open(str(path), "w", format="mov") as file:
        stream = file.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        file.start_encoding()
        for index in range(3):
            packet = av.Packet(png)
            packet.stream, packet.time_base = stream, stream.time_base
            packet.pts = packet.dts = index * 40
            file.mux(packet)
    assert path.stat().st_size < 300_000


def write_tables(path):
    """A MOV of 76 bytes whose table of sizes names 60 million frames, 2 GB in FFmpeg."""
    content = struct.pack("!I4sIII", 20, b"stsz", 0, 1, 60_000_000)
    for kind in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        content = struct.pack("!I4s", 8 + len(content), kind) + content
    path.write_bytes(struct.pack("!I4s4sI", 16, b"ftyp", b"qt  ", 0) + content)


def test_hostile_files_are_listed_and_the_others_extracted(extract, noise_video, capsys):
    good = [noise_video(f"good{i}.mp4", seed=i) for i in range(3)]
    faulty = [noise_video(f"{name}.mp4") for name in ("hangs", "segfaults", "killed", "greedy")]
    truncated = Path(noise_video("truncated.mp4"))
    truncated.write_bytes(truncated.read_bytes()[:-200])  # its index lies at the end
    Path("disguised.mp4").write_text("ffconcat version 1.0\nfile 'good0.mp4'\n", encoding="utf-8")
    write_bomb(Path("bomb.mp4"))
    write_tables(Path("tables.mov"))
    os.mkfifo("pipe.mp4")
    refused = ["truncated.mp4", "disguised.mp4", "bomb.mp4", "tables.mov", "pipe.mp4", "missing.mp4"]
    names = [good[0], *faulty, good[1], *refused, good[2]]

    assert extract(names, "--set=INFER.stall_limit_sec=1") == 1
    out, err = capsys.readouterr()
    assert "extracted 3 (in part 0), kept 0, failed 10" in out
    assert "Traceback" not in err
    lines = Path("out/failures.jsonl").read_text(encoding="utf-8").splitlines()
    failures = {record["video_id"]: record for record in map(json.loads, lines)}
    assert list(failures) == [*faulty, *refused], "in the list's order"
    assert [name for name, record in failures.items() if record["retriable"]] == faulty
    for name, text in {
        "hangs.mp4": "no frame for 1 s, decoding was stopped; raise stall_limit_sec",
        "segfaults.mp4": "crashed (signal SIGSEGV)",
        "killed.mp4": "was killed, probably because memory ran out",
        "greedy.mp4": "not enough memory",
        "truncated.mp4": "cannot be read as video",
        "disguised.mp4": "cannot be read as video",
        "bomb.mp4": "no frame can be decoded",
        "tables.mov": "its tables declare 60000000 frames or samples, more than fit in 76 bytes",
        "pipe.mp4": "a pipe, expected a video file",
        "missing.mp4": "cannot be read (No such file or directory)",
    }.items():
        assert text in failures[name]["error"], name
        assert "\n" not in failures[name]["error"]
    assert [entry.path for entry in read_filelist("out/videos.list")] == [
        f"out/good{i}.npy" for i in range(3)
    ]
    for name in good:
        assert np.load(f"out/{Path(name).stem}.npy").shape == (6, 512)


def test_the_bomb_is_a_video_but_for_its_size(work_dir):
    write_bomb(Path("small.mp4"), 800)
    assert sum(frame.repeats for frame in FrameReader("small.mp4", 3)) == 3


def test_what_failed_by_chance_is_tried_again(extract, noise_video, monkeypatch, capsys):
    names = [noise_video("segfaults.mp4"), noise_video("good.mp4")]
    assert extract(names) == 1
    monkeypatch.setattr(decode_pool, "READER", "videotag.media.video:FrameReader")
    assert extract(names) == 0
    assert "extracted 1 (in part 0), kept 1, failed 0" in capsys.readouterr().out
    assert not Path("out/failures.jsonl").exists()


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_ctrl_c_and_kill_end_a_hanging_decode(tsn_dir, noise_video, how, code):
    names = [noise_video("good.mp4"), noise_video("hangs.mp4")]
    Path("videos.list").write_text("\n".join(names), encoding="utf-8")
    start = (
        "import sys; from videotag.media import decode_pool;"
        "decode_pool.READER = 'faulty_reader:FaultyReader';"
        "from videotag.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(DOUBLES)])}
    with subprocess.Popen(
        [sys.executable, "-c", start, "extract", *words(tsn_dir)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 300
        while not Path("out/good.npy").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, how)  # as the terminal does: to all processes of the group
        try:
            _, err = process.communicate(timeout=300)  # ends when the children, too, have let go of stderr
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert Path("out/good.npy").exists()


def test_a_second_run_into_a_folder_is_refused(extract, noise_video, capsys):
    names = [noise_video("a.mp4")]
    with folder_lock(Path("out")):
        assert extract(names) == 2
    assert "out: another videotag process uses this folder; wait" in one_line(capsys)
    assert extract(names) == 0


def fail_from_second(monkeypatch, prepare):
    """Calls `prepare` before the second video's features are made."""
    rows, calls = Extractor._rows, iter(range(99))

    def make(self, images):
        if next(calls) == 1:  # a video of these tests fits into one batch
            prepare()
        return rows(self, images)

    monkeypatch.setattr(Extractor, "_rows", make)


def test_a_file_that_finds_no_room_ends_the_run_and_the_next_goes_on(
    extract, noise_video, monkeypatch, capsys
):
    names = [noise_video(f"{i}.mp4", seed=i) for i in range(3)]
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        fail_from_second(patch, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, old[1])))
        try:
            assert extract(names) == 2
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert (
        "out/1.npy: cannot write (File too large); check the folder's permissions and free space"
        in one_line(capsys)
    )
    assert leftovers() == []
    assert sorted(path.name for path in Path("out").glob("*.npy")) == ["0.npy"]
    assert extract(names) == 0
    assert "extracted 2 (in part 0), kept 1, failed 0" in capsys.readouterr().out


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_gives_way_ends_the_run_with_one_line(extract, noise_video, monkeypatch, capsys, number):
    names = [noise_video(f"{i}.mp4", seed=i) for i in range(3)]

    def refuse(_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        fail_from_second(patch, lambda: patch.setattr("videotag.system.atomic.os.fsync", refuse))
        assert extract(names) == 2
    assert f"out/1.npy: cannot write ({os.strerror(number)})" in one_line(capsys)
    assert leftovers() == []
    assert extract(names) == 0
    assert "extracted 2 (in part 0), kept 1, failed 0" in capsys.readouterr().out


def test_a_failure_that_finds_no_room_leaves_whole_lines(extract, noise_video, monkeypatch, capsys):
    for name in ("a.mp4", "b.mp4"):
        Path(name).write_bytes(b"no video")
    write, calls = os.write, iter(range(99))

    def fill(handle, data):
        call = next(calls)
        if call > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data if call == 0 else data[:20])  # a full disk takes what still fits first

    with monkeypatch.context() as patch:
        patch.setattr("videotag.inference.outputs.os.write", fill)
        assert extract(["a.mp4", "b.mp4"]) == 2
    assert "out/failures.jsonl: cannot write (No space left on device); check" in one_line(capsys)
    (line,) = Path("out/failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["video_id"] == "a.mp4"


def test_a_folder_in_the_place_of_a_feature_file_is_one_line(extract, noise_video, capsys):
    names = [noise_video("a.mp4"), noise_video("b.mp4")]
    Path("out/b.npy").mkdir(parents=True)
    assert extract(names) == 2
    assert "out/b.npy: cannot write (Is a directory)" in one_line(capsys)
    assert Path("out/a.npy").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_line(extract, noise_video, capsys):
    names = [noise_video("a.mp4")]
    Path("out").mkdir(mode=0o555)
    assert extract(names) == 2
    assert "out: cannot write (Permission denied); choose another --save_dir" in one_line(capsys)
