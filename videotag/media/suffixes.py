"""Supported container formats and their file suffixes; finds the videos of a folder by suffix.

One table defines both, so that all videos listed for a folder have supported formats. A file given by
its own path is opened regardless of its suffix; its content determines the format.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

# FFmpeg demuxer -> suffixes of videos in that format. Excludes playlists and scripts (concat, hls, dash,
# image2 ...), which open other files. Includes sound formats, without suffixes, so that the error for a sound
# file says what it is. Excludes suffixes that usually mean something else: .dat, .ps (PostScript), .mod
# (music), .dif (tables), .psp and .heic (pictures), .ism (XML), .ogg and .m4a (sound).
_SUFFIXES_OF = {
    "mov": "mp4 m4v mov qt mqv mp4v 3gp 3gpp 3g2 3gp2 f4v ismv mj2",
    "matroska": "mkv webm mk3d",
    "avi": "avi divx",
    "flv": "flv",
    "asf": "asf wmv wm dvr-ms",
    "mpeg": "mpg mpeg mpe m2p vob vro evo",
    "mpegts": "ts m2ts m2t mts mpegts tp trp tod",
    "mpegvideo": "m1v m2v mpv mpv2 mp2v",
    "m4v": "m4v",
    "h263": "h263",
    "h264": "h264 264 h26l avc",
    "hevc": "hevc h265 265",
    "vvc": "vvc h266 266",
    "av1": "obu",  # its two byte stream formats, Annex B and low overhead, share a suffix
    "obu": "obu",
    "ivf": "ivf",
    "ogg": "ogv ogm ogx",
    "mxf": "mxf",
    "nut": "nut",
    "dv": "dv",
    "rm": "rm rmvb",
    "gif": "gif",
    "yuv4mpegpipe": "y4m",
    "mp3": "",
    "wav": "",
    "flac": "",
    "aac": "",
    "aiff": "",
}
#: The demuxers, as a value of FFmpeg's option format_whitelist.
FORMATS = ",".join(_SUFFIXES_OF)
#: In lower case, with the dot.
VIDEO_SUFFIXES = frozenset(f".{name}" for names in _SUFFIXES_OF.values() for name in names.split())
PICTURE_SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"])
#: Key in FolderContent.left_out for broken links, pipes and devices with a requested suffix.
NOT_REGULAR = "not regular files"
_MAX_KINDS = 8  # suffixes listed in a message
_MAX_SUFFIX = 12  # characters; a longer suffix is the end of a name with a dot in it


@dataclass(frozen=True)
class FolderContent:
    """The files below a folder, ignoring hidden files and folders.

    Attributes:
        taken: Paths of the files with a requested suffix, sorted.
        left_out: Number of other files per lower-case suffix, which is "" for files without one; broken
            links, pipes and devices with a requested suffix count as NOT_REGULAR.
    """

    taken: list[Path]
    left_out: Counter[str]


def scan_folder(folder: str | Path, suffixes: Collection[str] = VIDEO_SUFFIXES) -> FolderContent:
    """Finds the files at any depth below `folder`, without following links to folders.

    Args:
        folder: Folder to search; it may itself be hidden. One that does not exist counts as empty.
        suffixes: Lower-case suffixes of the files to take, with the dot.
    """
    taken = []
    left_out: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            suffix = path.suffix.lower()
            if name.startswith("."):
                continue
            if suffix not in suffixes:
                left_out[suffix] += 1
            elif path.is_file():
                taken.append(path)
            else:
                left_out[NOT_REGULAR] += 1
    return FolderContent(sorted(taken), left_out)


def list_videos(folder: str | Path) -> list[Path]:
    """Paths of the files below `folder` with a video suffix, sorted; ignores hidden files and folders."""
    return scan_folder(folder).taken


def folder_text(folder: str | Path, num_taken: int, left_out: Counter[str], *, noun: str = "video") -> str:
    """A summary of a folder, such as "clips: 9 videos; 3 files left out (.txt 2, .srt 1)".

    Args:
        folder: Path of the folder, as the user wrote it.
        num_taken: Number of files taken.
        left_out: Number of other files per suffix, as in FolderContent.
        noun: Singular noun for a file taken.
    """
    others = left_out_text(left_out)
    return f"{Path(folder)}: {_counted(num_taken, noun)}{others and f'; {others}'}"


def left_out_text(left_out: Counter[str]) -> str:
    """A summary of the files left out, such as "3 files left out (.txt 2, .srt 1)"; "" if there are none.

    The most frequent suffixes come first. Very long ones (the end of a name with a dot in it) and those with
    control characters are counted together as "other".

    Args:
        left_out: Number of files per suffix, as in FolderContent.
    """
    kinds: Counter[str] = Counter()
    for suffix, count in left_out.items():
        is_word = suffix == NOT_REGULAR or (suffix.isprintable() and len(suffix) <= _MAX_SUFFIX)
        kinds[(suffix or "no suffix") if is_word else "other"] += count
    if not kinds:
        return ""
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{kind} {count}" for kind, count in ordered[:_MAX_KINDS]]
    if len(ordered) > _MAX_KINDS:
        shown.append(f"{len(ordered) - _MAX_KINDS} more suffixes {sum(n for _, n in ordered[_MAX_KINDS:])}")
    return f"{_counted(kinds.total(), 'file')} left out ({', '.join(shown)})"


def _counted(number: int, noun: str) -> str:
    """A number with its noun, such as "1 video" or "9 videos"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
