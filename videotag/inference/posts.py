"""Posts: samples with a video, pictures, sound and texts, any of which may be missing.

A line of a JSON list has the fields `video`, `audio`, `cover`, `images` (a list), `title`, `caption`, `text`,
`ocr` and `speech`; other fields are ignored. An entry of a classic list, or of a folder, is a video.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from videotag.errors import FileListError, one_error
from videotag.formats.filelist import ListEntry
from videotag.formats.json_lists import ITEM_SEPARATOR, read_json_list
from videotag.inference.feature_options import Input
from videotag.inference.input_files import input_identity
from videotag.safe_text import escaped, safe_repr

logger = logging.getLogger(__name__)

FIELDS = ("video", "audio", "cover", "images", "title", "caption", "text", "ocr", "speech")
_MAX_ID_BYTES = 200  # file systems allow 255 for a name with suffixes
_TEXT_FIELDS = ("title", "caption", "text")


def read_posts(path: str | Path) -> list[ListEntry]:
    """The posts of a JSON list, whose ids name their files.

    Raises:
        FileListError: The list is invalid, or an id cannot name files.
    """
    entries = read_json_list(path)
    problems = [
        f"{path}:{entry.line}: id {safe_repr(entry.path)} names the files of its features, but {reason}; "
        "change it"
        for entry in entries
        if (reason := _id_problem(entry.path))
    ]
    if problems:
        raise one_error(FileListError, problems)
    for name in {name for entry in entries for name in entry.fields or {}} - set(FIELDS):
        near = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.75)
        if near:
            logger.warning("%s: field %s is not read; did you mean %s?", path, escaped(name), near[0])
    return entries


def _id_problem(name: str) -> str | None:
    """The reason why an id cannot name files; None if it can."""
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        return 'is an absolute path, or has ".." or no name'
    if "\n" in name or "\r" in name:
        return "has a line break"
    if any(len(part.encode()) > _MAX_ID_BYTES for part in path.parts):
        return f"is longer than {_MAX_ID_BYTES} bytes"
    return None


@dataclass(frozen=True)
class Post:
    """A sample.

    Attributes:
        id: Its id.
        video: Path of its video; None if it has none.
        audio: Path of its sound, by default that of the video; None if it has none.
        images: Paths of its pictures, the cover first.
        texts: Its given texts: "text", "ocr" and "speech"; those that are missing or blank are left out.
    """

    id: str
    video: str | None
    audio: str | None
    images: tuple[str, ...]
    texts: dict[Input, str]

    @classmethod
    def of_entry(cls, entry: ListEntry) -> Post:
        """The post of an entry of a list."""
        if entry.fields is None:
            return cls(entry.path, entry.path, entry.path, (), {})
        fields = entry.fields
        images = [fields.get("cover", ""), *fields.get("images", "").split(ITEM_SEPARATOR)]
        own = "\n".join(fields[key].strip() for key in _TEXT_FIELDS if fields.get(key, "").strip())
        given: dict[Input, str] = {
            "text": own,
            "ocr": fields.get("ocr", "").strip(),
            "speech": fields.get("speech", "").strip(),
        }
        video = fields.get("video") or None
        return cls(
            id=entry.path,
            video=video,
            audio=fields.get("audio") or video,
            images=tuple(dict.fromkeys(path for path in images if path)),
            texts={name: text for name, text in given.items() if text},
        )

    def media(self, name: Input, *, max_images: int) -> tuple[str, ...]:
        """The files that an input is read from; empty for a given text, or if the input is missing.

        Args:
            name: Kind of input.
            max_images: Maximum number of pictures.
        """
        if name == "image":
            return self.images[:max_images]
        if name in self.texts or name == "text":
            return ()
        path = self.audio if name in ("audio", "speech") else self.video
        return () if path is None else (path,)

    def has(self, name: Input) -> bool:
        """Whether the post has what an input is made of; a video may still lack sound or words."""
        return name in self.texts or bool(self.media(name, max_images=1))

    def identity(self, name: Input, *, max_images: int, read_by: str | None) -> dict[str, Any]:
        """Fingerprint of what an input is made of, without reading media.

        Args:
            name: Kind of input, which the post has.
            max_images: Maximum number of pictures.
            read_by: Name of the network that reads words from media; None for other inputs.

        Raises:
            MediaError: A file cannot be read.
        """
        if name in self.texts:
            return {"text_sha256": hashlib.sha256(self.texts[name].encode()).hexdigest()}
        files = [input_identity(path) for path in self.media(name, max_images=max_images)]
        return {"files": files, **({} if read_by is None else {"read_by": read_by})}
