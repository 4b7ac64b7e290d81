"""Reads what is missing of a post: frames, pictures, sound and words.

A video is decoded once for its frames and its text, and its sound once for its features and its speech.
Shapes: R rows, D feature width, K pictures, H height, W width.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np

from videotag.errors import MediaError, MissingInputError
from videotag.formats.filelist import ListEntry
from videotag.inference.feature_networks import FeatureNetworks
from videotag.inference.feature_options import Input
from videotag.inference.posts import Post
from videotag.inputs.frames import Frames, read_frames
from videotag.media.decode_pool import DecodePool, PooledReader
from videotag.media.picture import PictureReader
from videotag.media.sound import SoundBlock
from videotag.sections import VideoSplitSection
from videotag.senses.finding import Finding
from videotag.senses.search import Search

_STALL_LIMIT_SEC = 300.0  # without an extractor, whose config sets it
_NEEDED: dict[Input, str] = {
    "video": "field video",
    "embedding": "field video",
    "image": "field cover or images",
    "audio": "field audio or video",
    "text": "field title, caption or text",
    "ocr": "field ocr or video",
    "speech": "field speech, audio or video",
}


@dataclass(frozen=True)
class Words:
    """The words of an input, and when they are shown or spoken.

    Attributes:
        text: The words.
        findings: The same with times, as Finding.to_dict returns them; empty for given texts.
    """

    text: str
    findings: tuple[dict[str, Any], ...] = ()


#: What was read of one input: frames, pictures (K, H, W, 3), rows (R, D) or words; or why there is nothing.
Part: TypeAlias = Frames | np.ndarray | Words | MediaError


@dataclass
class PostParts:
    """What was read of a sample.

    Attributes:
        identities: Input -> fingerprint of its files or text, taken before they were read.
        parts: Input -> what was read.
        warnings: Input -> problem that did not prevent reading its file.
    """

    identities: dict[Input, dict[str, Any]] = field(default_factory=dict)
    parts: dict[Input, Part] = field(default_factory=dict)
    warnings: dict[Input, str] = field(default_factory=dict)


class PostReader:
    """Reads the inputs of one sample into a PostParts.

    Args:
        networks: Networks, shared with other threads.
        post: The sample.
        pool: Child processes to decode in.
        stop: Event that ends decoding with Stopped.
        loaded: Receives what is read.
    """

    def __init__(
        self,
        networks: FeatureNetworks,
        post: Post,
        pool: DecodePool,
        stop: threading.Event,
        loaded: PostParts,
    ) -> None:
        self._networks = networks
        self._post = post
        self._pool = pool
        self._stop = stop
        self._loaded = loaded

    def read_texts(self, todo: Sequence[Input]) -> None:
        """Takes the given texts, and notes which inputs the post lacks."""
        for name in todo:
            if name in self._post.texts:
                self._loaded.parts[name] = Words(self._post.texts[name])
            elif not self._post.has(name):
                self._loaded.parts[name] = MissingInputError(f"the post has no {_NEEDED[name]}")

    def read_frames(self, todo: Sequence[Input]) -> None:
        """Decodes the video once, for frames and for the text in it."""
        wanted = self._still(todo, ("video", "embedding", "ocr"))
        if not wanted:
            return
        path = self._post.video
        assert path is not None
        sense = self._networks.text_sense
        search = Search([sense] if sense and "ocr" in wanted else [])
        try:
            if {"video", "embedding"} & set(wanted):
                assert self._networks.extractor is not None
                split = self._networks.extractor.config.infer
                entry, others = ListEntry(path), search.others
                frames = read_frames(entry, split, pool=self._pool, stop=self._stop, others=others)
                self._loaded.parts.update({name: frames for name in wanted if name != "ocr"})
                duration_sec, warning = frames.duration_sec, frames.warning
            else:
                (other,) = search.others
                reader = self._pool.reader(path, **self._limits(), **asdict(other.view))
                for frame in reader:
                    other.take(frame)
                duration_sec, warning = reader.info.duration_sec, reader.warning
        except MediaError as error:
            self._loaded.parts.update(dict.fromkeys(wanted, error))
            return
        if warning:
            self._loaded.warnings.update(dict.fromkeys(wanted, warning))
        if "ocr" in wanted:
            found = search.finish(duration_sec)["text"]
            self._loaded.parts["ocr"] = words_of(found, "the video shows no text")

    def read_sound(self, todo: Sequence[Input]) -> None:
        """Decodes the sound once, for its features and for speech."""
        wanted = self._still(todo, ("audio", "speech"))
        if not wanted:
            return
        path = self._post.audio
        assert path is not None
        sense, encoder = self._networks.speech_sense, self._networks.sound_encoder
        search = Search([sense] if sense and "speech" in wanted else [])
        stream = encoder.stream() if encoder and "audio" in wanted else None

        def encode(block: SoundBlock) -> None:
            assert encoder is not None
            assert stream is not None
            with encoder.lock:
                stream.add_sound(block)

        try:
            search.hear(path, self._pool, listeners=[encode] if stream else [], **self._limits())
        except MediaError as error:
            self._loaded.parts.update(dict.fromkeys(wanted, error))
            return
        if search.lacks_sound:
            self._loaded.parts.update(dict.fromkeys(wanted, MissingInputError(f"{path}: has no sound")))
            return
        if search.warning:
            self._loaded.warnings.update(dict.fromkeys(wanted, search.warning))
        if encoder is not None and stream is not None:
            with encoder.lock:
                rows = stream.finish()
            too_short = MissingInputError(f"{path}: is shorter than one row of features")
            self._loaded.parts["audio"] = rows if len(rows) else too_short
        if "speech" in wanted:
            self._loaded.parts["speech"] = words_of(search.finish(0.0)["speech"], "the sound has no speech")

    def read_pictures(self, todo: Sequence[Input]) -> None:
        """Reads the pictures."""
        if "image" not in todo or "image" in self._loaded.parts:
            return
        assert self._networks.extractor is not None
        split = self._networks.extractor.config.infer
        pictures: list[np.ndarray] = []
        try:
            for path in self._post.media("image", max_images=self._networks.options.image.max_images):
                pictures += [frame.image for frame in picture_reader(path, split, self._pool, self._stop)]
        except MediaError as error:
            self._loaded.parts["image"] = error
            return
        self._loaded.parts["image"] = np.stack(pictures)
        if rest := len(self._post.images) - len(pictures):
            self._loaded.warnings["image"] = (
                f"{self._post.id}: {rest} of {len(self._post.images)} pictures are left out "
                "(INPUTS.image.max_images)"
            )

    def _still(self, todo: Sequence[Input], names: Sequence[Input]) -> list[Input]:
        """The inputs among `names` that remain to be read."""
        return [name for name in names if name in todo and name not in self._loaded.parts]

    def _limits(self) -> dict[str, Any]:
        """Arguments of a pool's readers that bound the time of a file."""
        extractor = self._networks.extractor
        limit_sec = extractor.config.infer.stall_limit_sec if extractor else _STALL_LIMIT_SEC
        return {"stall_limit_sec": limit_sec, "stop": self._stop}


def words_of(findings: Sequence[Finding] | None, why_not: str) -> Words | MissingInputError:
    """The words of findings, each text once; or that there are none."""
    texts = list(dict.fromkeys(one.text.strip() for one in findings or () if one.text.strip()))
    if not texts:
        return MissingInputError(why_not)
    return Words("\n".join(texts), tuple(one.to_dict() for one in findings or ()))


def picture_reader(
    path: str, split: VideoSplitSection, pool: DecodePool, stop: threading.Event
) -> PooledReader:
    """The reader of a picture, scaled and cropped like the frames of videos."""
    return pool.reader(
        path,
        kind=PictureReader,
        stall_limit_sec=split.stall_limit_sec,
        stop=stop,
        short_side_px=split.short_size,
        force_4_by_3=split.resize == "videotag",
        crop_px=split.target_size,
    )
