"""MP4 and MOV tables that declare more samples than fit in the file; the memory limit of a decoding child."""

from __future__ import annotations

import re
import resource
import struct
import subprocess
import sys
import time
import zlib

import pytest

from videotag.errors import MediaError
from videotag.media import decode_pool
from videotag.media.mp4_tables import FREE_SAMPLES, check_tables
from videotag.media.video import probe

MANY = 60_000_000  # samples, 2.2 GB in FFmpeg


def box(kind, *parts):
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full(kind, *numbers):
    """A box with version and flags 0, and 32-bit numbers or bytes."""
    return box(kind, bytes(4), *[n if isinstance(n, bytes) else struct.pack(">I", n) for n in numbers])


def track(count, *, kind=b"vide", duration=1, entry=b"jpeg", sizes=None, described=b""):
    """A track of `count` samples of a byte; `described` lies in the description of its samples."""
    picture = bytes(6) + b"\0\1" + bytes(16) + struct.pack(">HH", 64, 64) + bytes(12) + b"\0\1" + bytes(32)
    sound = bytes(6) + b"\0\1" + bytes(8) + struct.pack(">HHHHI", 1, 8, 0, 0, 8000 << 16)
    content = picture + b"\0\x18\xff\xff" if kind == b"vide" else sound
    table = box(
        b"stbl",
        full(b"stsd", 1, box(entry, content, described)),
        full(b"stts", 1, count, duration),
        sizes or full(b"stsz", 1, count),
        full(b"stsc", 1, 1, count, 1),
        full(b"stco", 1, 700),
    )
    media = box(
        b"mdia",
        full(b"mdhd", 0, 0, 1000, 1000, 0x55C40000),
        full(b"hdlr", 0, kind, bytes(13)),
        box(b"minf", full(b"vmhd", bytes(8)), box(b"dinf", full(b"dref", 1, full(b"url "))), table),
    )
    return box(b"trak", full(b"tkhd", 0, 0, 1, bytes(68)), media)


def movie(*tracks, behind=b""):
    header = full(b"mvhd", 0, 0, 1000, 1000, 0x10000, 0x1000000, bytes(68), 2)
    moov = box(b"moov", header, *tracks)
    return box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + moov + behind + box(b"mdat", bytes(64))


def packed(content):
    return box(b"cmvd", struct.pack(">I", len(content)) + zlib.compress(content))


def compressed(content):
    return box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), packed(content)))


FRAGMENT = box(b"moof", full(b"mfhd", 1), box(b"traf", full(b"tfhd", 1), full(b"trun", MANY)))
SIZES = full(b"stsz", 1, MANY)
METADATA = full(b"hdlr", 0, b"mdta", bytes(13))
WIDE = struct.pack(">I4sQ", 1, b"moov", 16 + len(track(MANY))) + track(MANY)  # its size in 64 bits
TOO_MANY = {
    "one": movie(track(MANY)),
    "several": movie(*[track(FREE_SAMPLES // 4) for _ in range(5)]),
    "sound": movie(track(MANY, kind=b"soun", entry=b"mp4a", duration=1024)),
    "fragment": movie(track(1), behind=FRAGMENT),
    "compressed": compressed(box(b"moov", track(MANY))),
    "wide": WIDE,
    "to the end": b"\0\0\0\0moov" + track(MANY),
    # FFmpeg reads tables of samples wherever they are.
    **{
        kind.decode(): movie(track(MANY, sizes=box(kind, SIZES)))
        for kind in b"edts dinf tref ilst schi sinf".split()
    },
    "metadata": movie(track(MANY, sizes=box(b"meta", METADATA, SIZES))),
    "description": movie(track(MANY, sizes=b"", described=SIZES)),
}


@pytest.mark.parametrize("name", TOO_MANY)
def test_more_samples_than_fit_in_the_file_are_rejected(tmp_path, name):
    path = tmp_path / "a.mov"
    path.write_bytes(TOO_MANY[name])
    with pytest.raises(
        MediaError, match=r"a\.mov: its tables declare \d+ frames or samples, more than"
    ) as caught:
        check_tables(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(MediaError, match="its tables declare"):
        probe(path)


KEYS = full(b"keys", 200_000_000)  # 1.6 GB in FFmpeg


@pytest.mark.parametrize(
    "metadata",
    [
        box(b"meta", METADATA, KEYS),
        full(b"meta", METADATA, KEYS),
        box(b"meta", b"not a hdlr" + bytes(998), METADATA, KEYS),
    ],
    ids=["QuickTime", "ISO", "far behind"],
)
def test_more_metadata_keys_than_fit_in_the_file_are_rejected(tmp_path, metadata):
    (tmp_path / "a.mov").write_bytes(movie(track(10), metadata))
    with pytest.raises(
        MediaError, match=r"a\.mov: its tables declare 200000000 metadata keys, more than fit in"
    ):
        check_tables(tmp_path / "a.mov")


@pytest.mark.parametrize(("kind", "what"), [(b"meta", "metadata"), (b"stsd", "sample descriptions")])
def test_a_box_too_long_to_be_searched_is_rejected(tmp_path, kind, what):
    (tmp_path / "a.mov").write_bytes(movie(box(kind, bytes(2**20 + 4))))
    with pytest.raises(MediaError, match=f"1048580 bytes of {what}, expected at most 1048576; copy"):
        check_tables(tmp_path / "a.mov")


def test_a_compressed_header_that_unpacks_to_much_is_rejected(tmp_path):
    content = box(b"moov", box(b"cmov", box(b"cmvd", struct.pack(">I", 2**31) + zlib.compress(bytes(100)))))
    (tmp_path / "a.mov").write_bytes(content)
    with pytest.raises(
        MediaError, match="compressed header of 2147483648 bytes when unpacked, expected at most 67108864"
    ):
        check_tables(tmp_path / "a.mov")


@pytest.mark.parametrize(
    "headers",
    [compressed(packed(bytes(100))), compressed(bytes(100)) + compressed(bytes(100))],
    ids=["inside the other", "behind the other"],
)
def test_a_second_compressed_header_is_rejected(tmp_path, headers):
    """A small one that holds a thousand others would unpack to 64 GB."""
    (tmp_path / "a.mov").write_bytes(headers)
    with pytest.raises(MediaError, match=r"a\.mov: several compressed headers, expected one; copy"):
        check_tables(tmp_path / "a.mov")


def test_descriptions_full_of_table_names_are_searched_in_two_seconds(tmp_path):
    (tmp_path / "a.mov").write_bytes(movie(*[box(b"stsd", (b"stsz" + bytes(8)) * 87_000)] * 6))
    start = time.process_time()
    check_tables(tmp_path / "a.mov")
    assert time.process_time() - start < 2


ALLOWED = {
    "compressed": compressed(box(b"moov", track(1))),
    "few": movie(track(FREE_SAMPLES)),
    "sound by chunks": movie(track(MANY, kind=b"soun", entry=b"raw ")),  # an hour of PCM, file broken off
    "a table": movie(track(1, sizes=full(b"stsz", 0, MANY))),  # FFmpeg reads it as far as it is there
    "keys": movie(
        track(1), box(b"meta", METADATA, full(b"keys", 2, full(b"mdta", b"a")[:12], full(b"mdta", b"b")))
    ),
    "a cover picture": movie(track(1), box(b"meta", METADATA, box(b"ilst", bytes(2**21)))),
    "damaged": movie(track(MANY))[:90],
    "another": b"RIFF" + bytes(1000),
    "short": b"\0\0",
}


@pytest.mark.parametrize("name", ALLOWED)
def test_other_files_are_left_to_ffmpeg(tmp_path, name):
    (tmp_path / "a.mov").write_bytes(ALLOWED[name])
    check_tables(tmp_path / "a.mov")


def test_a_file_large_enough_may_have_many_samples(tmp_path):
    path = tmp_path / "a.mov"
    path.write_bytes(movie(track(2 * FREE_SAMPLES)))
    with path.open("ab") as file:
        file.truncate(4 * FREE_SAMPLES)
    check_tables(path)


def test_a_file_of_hundreds_of_tracks_is_rejected(tmp_path):
    (tmp_path / "a.mov").write_bytes(movie(*[track(1) for _ in range(300)]))
    with pytest.raises(
        MediaError, match="its headers ask for more memory or streams than a video needs; copy"
    ):
        probe(tmp_path / "a.mov")


def test_rejecting_such_a_file_takes_bounded_memory(tmp_path, refusal_cost_mb):
    path = tmp_path / "a.mov"
    path.write_bytes(movie(track(MANY), track(MANY)))
    assert refusal_cost_mb(path) < 100


def test_the_memory_of_a_decoding_child_is_limited(make_video):
    path = make_video("a.mp4")
    with decode_pool.DecodePool() as pool:
        assert len(list(pool.reader(path, num_frames=2))) == 2
        (child,) = pool._idle
        limit = resource.prlimit(child._process.pid, resource.RLIMIT_AS)[0]
    assert decode_pool.MAX_MEMORY < limit < 2 * decode_pool.MAX_MEMORY + decode_pool.MEMORY_PER_CORE * 512


SERVED = """
import io, json, struct, sys
from videotag.media import decode_pool
decode_pool.MAX_MEMORY, decode_pool.MEMORY_PER_CORE = int(sys.argv[1]), 0
decode_pool._limit_memory()

class Reader:
    def __init__(self, path):
        kept = bytes(int(sys.argv[2]))
        raise MemoryError

out = io.BytesIO()
decode_pool._answer(out, {"reader": "__main__:Reader", "path": "a.mp4"})
print(out.getvalue()[4:].decode())
"""


@pytest.mark.parametrize(
    ("held", "message", "error"),
    [
        (
            0,
            "a.mp4: not enough memory to decode it; free memory or set a smaller batch_size",
            "DecoderLostError",
        ),
        (
            3 * 2**30,
            "a.mp4: decoding it takes more than the limit of 4.0 GiB per file; convert it to H.264",
            "MediaError",
        ),
    ],
)
def test_a_file_that_exhausts_its_memory_limit_is_not_retriable(held, message, error):
    words = [sys.executable, "-c", SERVED, str(2**32), str(held)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert re.search(message, done.stdout)
    assert f'"class": "{error}"' in done.stdout
