"""Opens untrusted media files and yields their intact packets and frames.

Opens only local files, and none that make FFmpeg open others: a playlist named x.mp4 is an error. FFmpeg's
errors become one-line MediaErrors.
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

MAX_FRAME_PX = 8192 * 8192  # larger frames are decompression bombs rather than video
ENCRYPTED = "encrypted; use a copy without copy protection"

# FFmpeg's own limit of 1,000 streams takes ten seconds to open; a multiplex of TV programs has 100.
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "max_streams": "256"}
# FFmpeg trusts the index size of an FLV (up to 2 GiB); the index is not needed, since nothing seeks.
_FLV_OPTIONS = {"fflags": "+ignidx"}
_DECODING_BYTES = 2**28  # decoding 4K frames in several threads
_TS_HEAD = 188 * 192 * 8  # bytes: a whole number of packets of either size
# Placeholders for the number of frames in headers that cannot be filled in at the end, as in a file written
# to a pipe: FFmpeg's in AVI, and 32 one bits as in IVF.
_UNFILLED = (2**30, 2**32 - 1)
# Decoders for which FFmpeg collects the stream headers as extradata, wherever they are in the file.
_WITH_HEADERS = ("h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "vc1")
_NOT_SHOWN = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@contextlib.contextmanager
def open_container(path: str | Path, *, ignore_edit_list: bool = False) -> Iterator[Any]:
    """Yields the av.InputContainer of a local media file, and closes it when the block ends.

    Args:
        path: Path of a local file.
        ignore_edit_list: Whether to show the frames of an MP4 or MOV that its edit list hides.

    Raises:
        MediaError: The file does not exist, is not regular, is empty, is not media, or declares tables that
            do not fit in it.
        MemoryError: FFmpeg cannot allocate memory.
    """
    _check_file(path)
    try:
        check_tables(path)
        is_flv = _begins_with(path, b"FLV")
        # Without "file:", FFmpeg would interpret names such as "concat:a|b". Uses container_options because
        # `options` makes PyAV before 18 free memory it does not own if streams appear late (FLV, TS).
        name = f"file:{os.path.abspath(path)}"  # noqa: PTH100
        options = _OPTIONS | ({"ignore_editlist": "1"} if ignore_edit_list else {})
        options |= _FLV_OPTIONS if is_flv else {}
        container = av.open(name, container_options=options, metadata_errors="replace")
    except av.error.MemoryError as error:
        if _has_memory():  # FFmpeg refuses single allocations of 2 GiB, which only a damaged file causes
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
    """The av.VideoStream to show: default streams come first, then those with more pixels.

    Cover art and thumbnails do not count as video.

    Args:
        container: Opened av.InputContainer.
        path: Path named in error messages.

    Raises:
        MediaError: There is no video stream or no decoder for it, or its frames are too large.
    """
    streams = shown_streams(container)
    if not streams:
        what = "sound" if container.streams.audio else "pictures or data"
        raise MediaError(f"{path}: only {what}, no video; remove it from the list")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise MediaError(f"{path}: FFmpeg has no decoder for this kind of video; convert it to H.264")
    stream = max(known, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height))
    check_size(path, stream.width, stream.height)
    stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PX)}  # later frames may be larger
    return stream


def shown_streams(container: Any) -> list[Any]:
    """The av.VideoStreams of an opened av.InputContainer, without cover art and thumbnails."""
    return [stream for stream in container.streams.video if not stream.disposition & _NOT_SHOWN]


def check_size(path: str | Path, width: int, height: int) -> None:
    """Checks the size of frames.

    Args:
        path: Path named in the error message.
        width: Width in pixels.
        height: Height in pixels.

    Raises:
        MediaError: The frames have more than MAX_FRAME_PX pixels.
    """
    if width * height > MAX_FRAME_PX:
        raise MediaError(f"{path}: frames of {width}x{height} pixels, expected at most {MAX_FRAME_PX} in all")


def declared_frames(stream: Any) -> int | None:
    """Number of frames that the header declares; None if it declares none or was never filled in."""
    return stream.frames if stream.frames and stream.frames not in _UNFILLED else None


def declared_duration(stream: Any) -> int | None:
    """Duration in the header, in units of time_base; None if it declares none or was never filled in."""
    return stream.duration if stream.duration and stream.duration not in _UNFILLED else None


def packets(container: Any, *streams: Any) -> Iterator[Any]:
    """Yields the packets of a container up to the end, or to where the file is truncated.

    Args:
        container: Opened av.InputContainer.
        *streams: Streams whose packets to yield; none for all streams.
    """
    with contextlib.suppress(av.error.FFmpegError):  # end of readable data; frame counts reveal the loss
        for packet in container.demux(*streams):
            if packet.size:  # an empty packet would close the decoder
                is_late = packet.is_discard and not packet.stream.frames
                yield _without_discard_flag(packet) if is_late else packet


def _without_discard_flag(packet: Any) -> Any:
    """A copy of a packet without the flag by which FFmpeg discards it.

    In a fragmented MP4 FFmpeg sets the flag if the decoding time falls, as it does after a recorder restarts.
    Packets that an edit list hides have the flag too, but are in files that declare their number of frames.
    """
    copy = av.Packet(memoryview(packet))
    copy.stream, copy.time_base, copy.is_keyframe = packet.stream, packet.time_base, packet.is_keyframe
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
    return copy


def decode(packets: Iterable[Any], stream: Any) -> Iterator[Any]:
    """Yields the av.VideoFrames of a stream's packets in display order; skips undecodable packets.

    Args:
        packets: Packets of the stream in file order.
        stream: Their av.VideoStream.
    """
    for packet in itertools.chain(packets, [None]):
        yield from decode_packet(stream, packet)


def decode_packet(stream: Any, packet: Any | None) -> list[Any]:
    """The frames that the decoder outputs for a packet; empty if it is damaged or output is delayed.

    Args:
        stream: The packet's av.VideoStream or av.AudioStream.
        packet: The next packet; None flushes the decoder.
    """
    try:
        return stream.codec_context.decode(packet)
    except av.error.FFmpegError:  # later packets may be intact; frame counts reveal the loss
        return []


def is_shown(packet: Any, stream: Any) -> bool:
    """Whether a packet's frame is displayed; False if an edit list hides it or it is a VP8 reference only."""
    # The bit show_frame of VP8's frame header, RFC 6386 section 9.1.
    hidden = stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10
    return not packet.is_discard and not hidden


def is_scrambled(path: str | Path) -> bool:
    """Whether most packets of an MPEG transport stream are scrambled, as in pay TV (ISO 13818-1, 2.4.3.3)."""
    with open_regular(path, error=MediaError) as file:
        head = file.read(_TS_HEAD)
    for stride in (188, 192):  # .m2ts puts four bytes before each packet
        starts = range(stride - 188, len(head) - 4, stride)
        if len(starts) and all(head[start] == 0x47 for start in starts):
            return 2 * sum(head[start + 3] >= 0x80 for start in starts) > len(starts)
    return False


def lacks_headers(stream: Any) -> bool:
    """Whether a stream lacks its headers, such as SPS and PPS of H.264, because it starts in the middle."""
    return stream.codec_context.name in _WITH_HEADERS and not stream.codec_context.extradata


def has_encryption_key(stream: Any) -> bool:
    """Whether a stream's metadata says that it is encrypted, as in Matroska."""
    return "enc_key_id" in stream.metadata


def is_encrypted(packet: Any) -> bool:
    """Whether a packet is encrypted by Common Encryption (ISO 23001-7), as in MP4."""
    return packet.has_sidedata("encryption_info")


def _begins_with(path: str | Path, magic: bytes) -> bool:
    with open_regular(path, error=MediaError) as file:
        return file.read(len(magic)) == magic


def _has_memory() -> bool:
    """Whether this process can still allocate the memory that decoding usually takes."""
    try:
        mmap.mmap(-1, _DECODING_BYTES).close()  # reserved, but never touched
    except (OSError, MemoryError):
        return False
    return True


def _check_file(path: str | Path) -> None:
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        raise MediaError(f"{path}: no such file; give the path of a video on this machine") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise MediaError(f"{path!s}: cannot be read ({error}); check the path and its permissions") from error
    if kind := non_regular_kind(status):
        raise MediaError(f"{path}: {kind}, expected a video file; give the path of a file")
    if status.st_size == 0:
        raise MediaError(f"{path}: empty (0 bytes); {AGAIN}")
