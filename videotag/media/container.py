"""Opens untrusted media files and yields the packets and frames that are intact.

Only local files are opened, and none that makes FFmpeg open others: a playlist named x.mp4 is an error.
Whatever FFmpeg says about a file becomes a MediaError of one line.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import av.error
from av.stream import Disposition

from videotag.errors import AGAIN, MediaError
from videotag.media.mp4_tables import check_tables
from videotag.media.suffixes import FORMATS
from videotag.system.regular_file import non_regular_kind, open_regular

MAX_FRAME_PX = 8192 * 8192  # larger ones are decompression bombs rather than videos
ENCRYPTED = "encrypted; use a copy without copy protection"

# A thousand streams, FFmpeg's own limit, keep it busy for ten seconds; a multiplex of TV programmes has 100.
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "max_streams": "256"}
# FFmpeg trusts the index size of an FLV (up to 2 GiB); the index is not needed, as nothing seeks.
_FLV_OPTIONS = {"fflags": "+ignidx"}
_DECODING_BYTES = 2**28  # frames of 4K in several threads
_TS_HEAD = 188 * 192 * 8  # bytes: whole packets of either size
# What stands for a number of frames where headers cannot be filled in at the end, as in a file written to a
# pipe: FFmpeg's AVI; 32 bits of ones, as in IVF.
_UNFILLED = (2**30, 2**32 - 1)
# Decoders of streams that begin with headers which FFmpeg keeps as extradata wherever it finds them.
_WITH_HEADERS = ("h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "vc1")
_NOT_SHOWN = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@contextlib.contextmanager
def open_container(path: str | Path, *, ignore_edit_list: bool = False) -> Iterator[Any]:
    """The av.InputContainer of a local media file.

    Args:
        path: A local file.
        ignore_edit_list: Whether all frames of an MP4 or MOV are shown, also those that its edit list hides.

    Raises:
        MediaError: No such file, not a regular one, empty, not media, or tables larger than the file.
        MemoryError: FFmpeg cannot allocate memory.
    """
    _check_file(path)
    try:
        check_tables(path)
        is_flv = _begins_with(path, b"FLV")
        # "file:" makes the name a name: FFmpeg takes "concat:a|b" for an order. container_options, since
        # `options` makes PyAV before 18 free memory that is not its own where streams appear late (FLV, TS).
        name = f"file:{os.path.abspath(path)}"  # noqa: PTH100
        options = _OPTIONS | ({"ignore_editlist": "1"} if ignore_edit_list else {})
        options |= _FLV_OPTIONS if is_flv else {}
        container = av.open(name, container_options=options, metadata_errors="replace")
    except av.error.MemoryError as error:
        if _has_memory():  # FFmpeg refuses single requests of 2 GiB, which only a damaged file makes
            raise MediaError(
                f"{path}: its headers ask for more memory or streams than a video needs; {AGAIN}"
            ) from error
        raise MemoryError(f"{path}: {error.strerror}") from error
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            f"{path}: cannot be read as video ({error.strerror}); if a player shows it, convert it to H.264, "
            f"else {AGAIN}"
        ) from error
    with container:
        yield container


def video_stream(container: Any, path: str | Path) -> Any:
    """The av.VideoStream to show: the default one, then the one of most pixels.

    Cover art and thumbnails are not video.

    Raises:
        MediaError: There is none, no decoder for it, or its frames are too large.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & _NOT_SHOWN]
    if not streams:
        what = "sound" if container.streams.audio else "pictures or data"
        raise MediaError(f"{path}: only {what}, no video; leave it out of the list")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise MediaError(f"{path}: FFmpeg has no decoder for this kind of video; convert it to H.264")
    stream = max(known, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height))
    check_size(path, stream.width, stream.height)
    stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PX)}  # frames may grow later on
    return stream


def check_size(path: str | Path, width: int, height: int) -> None:
    """Refuses frames of more than MAX_FRAME_PX pixels with a MediaError."""
    if width * height > MAX_FRAME_PX:
        raise MediaError(f"{path}: frames of {width}x{height} pixels, expected at most {MAX_FRAME_PX} in all")


def declared_frames(stream: Any) -> int | None:
    """The number of frames that the header states; None if it states none or was never filled in."""
    return stream.frames if stream.frames and stream.frames not in _UNFILLED else None


def declared_duration(stream: Any) -> int | None:
    """The duration that the header states, in units of time_base; None as for declared_frames."""
    return stream.duration if stream.duration and stream.duration not in _UNFILLED else None


def packets(container: Any, *streams: Any) -> Iterator[Any]:
    """The packets (of all streams if none is named) up to the end, or to where the file is broken off."""
    with contextlib.suppress(av.error.FFmpegError):  # end of readable data; frame counts reveal the loss
        for packet in container.demux(*streams):
            if packet.size:  # an empty packet would close the decoder
                yield _kept(packet) if packet.is_discard and not packet.stream.frames else packet


def _kept(packet: Any) -> Any:
    """A packet of a fragmented MP4 without FFmpeg's mark that its decoding time lies before the one ahead.

    Such fragments come from recorders that were started anew. Packets that an edit list hides bear the same
    mark, but lie in files that count their frames.
    """
    kept = av.Packet(memoryview(packet))
    kept.stream, kept.time_base, kept.is_keyframe = packet.stream, packet.time_base, packet.is_keyframe
    kept.pts, kept.dts, kept.duration = packet.pts, packet.dts, packet.duration
    return kept


def decode(packets: Iterable[Any], stream: Any) -> Iterator[Any]:
    """The av.VideoFrames of a stream's packets in display order, without what cannot be decoded."""
    for packet in itertools.chain(packets, [None]):
        yield from decode_packet(stream, packet)


def decode_packet(stream: Any, packet: Any | None) -> list[Any]:
    """The av.VideoFrames that are ready after a packet, none if it is damaged; None gives the last ones."""
    try:
        return stream.codec_context.decode(packet)
    except av.error.FFmpegError:  # later packets may be intact; frame counts reveal the loss
        return []


def is_shown(packet: Any, stream: Any) -> bool:
    """False for packets whose frames are never displayed: cut off by an edit list, or references of VP8."""
    # The bit show_frame of VP8's frame header, RFC 6386 section 9.1.
    hidden = stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10
    return not packet.is_discard and not hidden


def is_scrambled(path: str | Path) -> bool:
    """Whether most packets of an MPEG transport stream are scrambled, as in pay TV (ISO 13818-1, 2.4.3.3)."""
    with open_regular(path, error=MediaError) as file:
        head = file.read(_TS_HEAD)
    for stride in (188, 192):  # .m2ts has four bytes more
        starts = range(stride - 188, len(head) - 4, stride)
        if len(starts) and all(head[start] == 0x47 for start in starts):
            return 2 * sum(head[start + 3] >= 0x80 for start in starts) > len(starts)
    return False


def lacks_headers(stream: Any) -> bool:
    """Whether a stream has none of its headers, such as SPS and PPS of H.264, as it begins in the middle."""
    return stream.codec_context.name in _WITH_HEADERS and not stream.codec_context.extradata


def has_encryption_key(stream: Any) -> bool:
    """Whether the header says that a stream is encrypted, as in Matroska."""
    return "enc_key_id" in stream.metadata


def is_encrypted(packet: Any) -> bool:
    """Whether a packet is scrambled by common encryption, as in MP4 (ISO 23001-7)."""
    return packet.has_sidedata("encryption_info")


def _begins_with(path: str | Path, mark: bytes) -> bool:
    with open_regular(path, error=MediaError) as file:
        return file.read(len(mark)) == mark


def _has_memory() -> bool:
    """Whether this process can still have as much memory as decoding usually takes."""
    try:
        mmap.mmap(-1, _DECODING_BYTES).close()  # asked for, not touched
    except (OSError, MemoryError):
        return False
    return True


def _check_file(path: str | Path) -> None:
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file; give the path of a video on this machine") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise MediaError(f"{path!s}: cannot be read ({error}); check the path and its rights") from error
    if kind := non_regular_kind(status):
        raise MediaError(f"{path}: {kind}, expected a video file")
    if status.st_size == 0:
        raise MediaError(f"{path}: empty (0 bytes); {AGAIN}")
