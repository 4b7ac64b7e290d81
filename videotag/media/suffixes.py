"""The container formats that are opened, and which files of a folder are videos by their suffix.

One table names both, so that a folder's videos are those whose formats can be read. A file that is named
itself is opened whatever its suffix: its content decides.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

# FFmpeg's demuxers -> suffixes of videos in that format. Playlists and scripts (concat, hls, dash, image2
# ...) are missing, as they open other files. Sound is there, without suffixes, so that a song is called one.
# Suffixes that usually mean something else are missing too: .dat, .ps (PostScript), .mod (music), .dif
# (tables), .psp and .heic (pictures), .ism (XML), .ogg and .m4a (sound).
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
    "av1": "obu",  # its two byte streams, Annex B and low overhead, share a suffix
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
#: What a file may be, as FFmpeg's option format_whitelist takes it.
FORMATS = ",".join(_SUFFIXES_OF)
#: In lower case, with the dot.
VIDEO_SUFFIXES = frozenset(f".{name}" for names in _SUFFIXES_OF.values() for name in names.split())
#: Kind of files left out that have a suffix that was asked for, but are links to nowhere, pipes or devices.
NOT_REGULAR = "not regular files"
_MAX_KINDS = 8  # suffixes that a message names
_MAX_SUFFIX = 12  # characters; what is longer is the end of a name with a dot in it


@dataclass(frozen=True)
class FolderContent:
    """What is below a folder, without hidden files and folders.

    Attributes:
        taken: Files whose suffix was asked for, sorted.
        left_out: Number of all other files by suffix, in lower case; "" for files without one; NOT_REGULAR.
    """

    taken: list[Path]
    left_out: Counter[str]


def scan_folder(folder: str | Path, suffixes: Collection[str] = VIDEO_SUFFIXES) -> FolderContent:
    """Files at any depth below `folder`; links to folders are not followed.

    Args:
        folder: Folder to search; whether its own path is hidden does not matter.
        suffixes: Suffixes of the files to take, in lower case.
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
    """Files below `folder` whose suffix is a video's, sorted; hidden ones are left out."""
    return scan_folder(folder).taken


def folder_text(folder: str | Path, num_taken: int, left_out: Counter[str], *, noun: str = "video") -> str:
    """What was taken of a folder and what was not: "clips: 9 videos; 3 files left out (.txt 2, .srt 1)".

    Args:
        folder: Path of the folder, as the user wrote it.
        num_taken: Number of files taken.
        left_out: Number of other files, as in FolderContent.
        noun: What one of the files taken is called.
    """
    others = left_out_text(left_out)
    return f"{Path(folder)}: {_counted(num_taken, noun)}{others and f'; {others}'}"


def left_out_text(left_out: Counter[str]) -> str:
    """What was not taken of a folder: "3 files left out (.txt 2, .srt 1)"; "" if nothing.

    The most frequent suffixes come first. Very long ones, which are the end of a name with a dot in it, and
    those with control characters are counted together as "other".
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
