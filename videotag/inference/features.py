"""Posts -> a folder of feature files, one per sample and kind of input.

    SAVE_DIR/INPUT/ID.npy     the features of one input, with a stamp
    SAVE_DIR/posts/ID.json    the record of a sample: its files, and for missing inputs the reason
    SAVE_DIR/LIST.jsonl       the list to train on

A video is decoded once for its frames and its text, and its sound once for its features and its speech.
Shapes: R rows, D feature width, K pictures, H height, W width.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videotag.datasets.prefetch import prefetch
from videotag.errors import FeatureFileError, MediaError, MissingInputError, OutputError, one_error
from videotag.formats.feature_files import read_features, write_features
from videotag.formats.filelist import ListEntry
from videotag.inference.extract import found_stamp, made_as
from videotag.inference.feature_networks import FeatureNetworks
from videotag.inference.feature_options import INPUTS, Input
from videotag.inference.frozen_runtime import start_extractor, write_frozen
from videotag.inference.input_files import input_identity, path_from
from videotag.inference.jobs import Item, Job, Outcome
from videotag.inference.list_sample import sample_frames
from videotag.inference.post_reader import Part, PostParts, PostReader, Words, picture_reader
from videotag.inference.posts import Post
from videotag.inputs.frames import Frames
from videotag.media.decode_pool import DecodePool
from videotag.registry import EMBEDDING, FRAMES, MASK
from videotag.safe_text import escaped
from videotag.system.atomic import remove_partial, write_text
from videotag.system.cores import num_cores
from videotag.system.json_text import read_json
from videotag.system.progress import track

logger = logging.getLogger(__name__)
RECORDS = "posts"
_MIN_PICTURES = 8  # on which the precision is selected if there are no videos


@dataclass(frozen=True)
class FeaturesJob(Job[PostParts]):
    """Writes one .npy per sample and kind of input, and a record per sample.

    Args:
        networks: Networks for the wanted inputs.
        save_dir: Folder of the features.
        list_name: Name of the list of features, which records keep.
        overwrite: Whether a sample may replace another one with its id.
    """

    networks: FeatureNetworks
    save_dir: Path
    list_name: str = ""
    overwrite: bool = False
    what, suffix, folder = "posts", ".json", RECORDS

    # ------------------------------------------------------------ see Job

    def concurrency(self) -> tuple[int, int]:
        """See Job."""
        extractor = self.networks.extractor
        if extractor is None:
            return num_cores(), 2 * num_cores()
        return extractor.config.infer.videos_at_once, extractor.config.infer.videos_ahead

    def input_of(self, output: Path) -> Mapping[str, Any] | None:
        """See OutputKind; empty for a sample of a JSON list, whose record belongs to its id."""
        record = _read_record(output)
        return None if record is None else record.get("input", {})

    def is_listed(self, path: Path) -> bool:
        """See OutputKind; judged by the name alone, as a list names many files."""
        return path.suffix == ".npy" and not set(path.parts).isdisjoint(INPUTS)

    def check(self, items: Sequence[Item], save_dir: Path) -> None:
        """Refuses to replace feature files of other programs, and those of other samples with the same id."""
        problems = []
        for entry, output in items:
            record = None if self.overwrite or not output.exists() else _read_record(output)
            other = record and record.get("list")
            if record and other and other != self.list_name and record.get("fields") != _digest_of(entry):
                problems.append(
                    f"{entry.path}: another sample with this id, of {escaped(str(other))}, has features "
                    "here; change one of the ids, choose another --save_dir, or give --overwrite"
                )
            for name in self.networks.inputs:
                path = self._features_path(output, name)
                if path.exists() and found_stamp(path) is None:
                    problems.append(
                        f"{path}: exists and was not written by videotag; choose another --save_dir"
                    )
        if problems:
            raise one_error(OutputError, problems)

    def prepare(self, items: Sequence[Item], save_dir: Path) -> Mapping[str, Outcome]:
        """Finds complete samples; for the others, selects the extractor's runtime on a sample of the list.

        Raises:
            ConfigError: The folder's features are not in the requested precision.
            DeviceError: The device cannot compute in the folder's precision.
        """
        folders = {
            self._features_path(output, name).parent for _, output in items for name in self.networks.inputs
        }
        for folder in folders:
            remove_partial(folder)
        extractor = self.networks.extractor
        frames_dir = save_dir / "video"  # of pictures too, which share the network and so the precision
        if extractor is not None:
            start_extractor(extractor, frames_dir, (self._features_path(o, "video") for _, o in items))
        threads, _ = self.concurrency()
        found = prefetch(self._known, items, num_threads=threads, ahead=2 * threads)
        known = {o.item_id: o for o in track(found, "check existing features", len(items)) if o}
        if extractor is None or len(known) == len(items):
            return known
        sample = self._sample([entry for entry, _ in items]) if extractor.network.needs_sample else None
        if sample is not None or not extractor.network.needs_sample:
            extractor.network.select_runtime(None if sample is None else {FRAMES: sample})
            write_frozen(frames_dir, extractor)
        return known

    def load(self, item: Item, pool: DecodePool, stop: threading.Event) -> PostParts:
        """See Job; reads what is missing of a sample."""
        entry, output = item
        post, record, loaded = Post.of_entry(entry), _read_record(output), PostParts()
        todo = []
        for name in self.networks.inputs:
            try:
                if record is None or not self._is_done(post, output, record, name):
                    todo.append(name)
                    loaded.identities[name] = self._identity(post, name)
            except MediaError as error:
                loaded.parts[name] = error
        todo = [name for name in todo if name not in loaded.parts]
        for name in todo:
            if record is not None and (words := self._known_words(record, name, loaded.identities[name])):
                loaded.parts[name] = words
        has_features = "video" in self.networks.inputs and "video" not in todo and post.video
        if "embedding" in todo and has_features:
            loaded.parts["embedding"] = self._known_features(output)
        reading = PostReader(self.networks, post, pool, stop, loaded)
        reading.read_texts(todo)
        reading.read_frames(todo)
        reading.read_sound(todo)
        reading.read_pictures(todo)
        return loaded

    def finish(self, loaded: Iterable[tuple[Item, PostParts | Outcome]]) -> Iterator[Outcome]:
        """See Job; runs the networks and writes the features."""
        for item, one in loaded:
            yield one if isinstance(one, Outcome) else self._write(item, one)

    def write_list(self, path: Path, done: Sequence[tuple[ListEntry, Path, Outcome]]) -> None:
        """Writes a JSON list with the path of each input's features, null for a missing one."""
        lines = []
        missing: Counter[str] = Counter()
        for entry, _, outcome in done:
            line = {"id": entry.path, **outcome.fields, "labels": list(entry.label_ids)}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
            missing.update(name for name, file in outcome.fields.items() if file is None)
        write_text(path, "".join(lines))
        if missing:
            counts = ", ".join(f"{name} in {missing[name]}" for name in self.networks.inputs if missing[name])
            logger.info("missing, of %d samples: %s", len(done), counts)

    # ------------------------------------------------------------ records

    def _features_path(self, output: Path, name: Input) -> Path:
        """The feature file of an input, given the record of its sample."""
        inside = output.relative_to(self.save_dir / RECORDS)
        return (self.save_dir / name / inside).with_suffix(".npy")

    def _known_features(self, output: Path) -> np.ndarray | MediaError:
        """The features (T, D) of a video that are up to date; an error if they cannot be read."""
        path = self._features_path(output, "video")
        try:
            return read_features(path)
        except FeatureFileError as error:
            return MediaError(f"{error}; delete {path}")

    def _known_words(
        self, record: Mapping[str, Any], name: Input, identity: dict[str, Any]
    ) -> Words | MissingInputError | None:
        """What a record holds of recognized text or speech, if only the encoder of texts has changed.

        Args:
            record: Record of a sample.
            name: Kind of input.
            identity: Fingerprint of the input now.
        """
        known = record["inputs"].get(name, {})
        if name not in ("ocr", "speech") or not identity or known.get("made_from") != identity:
            return None
        if known.get("missing"):
            return MissingInputError(str(known["missing"]))
        text, findings = known.get("text"), known.get("findings")
        if not isinstance(text, str) or not text or not isinstance(findings, list):
            return None
        return Words(text, tuple(findings))

    def _identity(self, post: Post, name: Input) -> dict[str, Any]:
        """The fingerprint of what an input is made of; empty if the post lacks it."""
        if not post.has(name):
            return {}
        read_by = None if name in post.texts else self.networks.source(name)
        max_images = self.networks.options.image.max_images
        return post.identity(name, max_images=max_images, read_by=read_by)

    def _is_done(self, post: Post, output: Path, record: Mapping[str, Any], name: Input) -> bool:
        """Whether the record at `output` holds an input that is up to date.

        Raises:
            MediaError: What the input is made of cannot be read.
        """
        known = record["inputs"].get(name)
        if known is None:
            return False
        stamps = [{**known.get("made_by", {}), "input": known.get("made_from")}]
        if known.get("file"):  # which a run that was killed may have replaced before it wrote the record
            stamps.append(found_stamp(self._features_path(output, name)) or {})
        expected = {**self.networks.stamp(name), "input": self._identity(post, name)}
        expected = made_as(json.loads(json.dumps(expected)))
        return all(made_as(stamp) == expected for stamp in stamps)

    def _known(self, item: Item) -> Outcome | None:
        """The outcome of a sample whose inputs are all up to date; else None."""
        entry, output = item
        record = _read_record(output)
        if record is None:
            return None
        post = Post.of_entry(entry)
        try:
            if not all(self._is_done(post, output, record, name) for name in self.networks.inputs):
                return None
        except MediaError:
            return None  # reported when it is loaded
        warnings = [record["inputs"][name].get("warning") for name in self.networks.inputs]
        fields = self._fields(output, record)
        return Outcome(entry.path, "kept", warning=_joined(warnings), fields=fields)

    def _fields(self, output: Path, record: Mapping[str, Any]) -> dict[str, str | None]:
        """The path of each wanted input's features; None if the input is missing."""
        has_file = {name: bool(record["inputs"].get(name, {}).get("file")) for name in self.networks.inputs}
        return {
            name: str(self._features_path(output, name)) if has else None for name, has in has_file.items()
        }

    # ------------------------------------------------------------ work

    def _sample(self, entries: Sequence[ListEntry]) -> np.ndarray | None:
        """Frames, else pictures (K, H, W, 3), on which the precision is selected; None if there are none."""
        assert self.networks.extractor is not None
        split = self.networks.extractor.config.infer
        posts = [Post.of_entry(entry) for entry in entries]
        videos = [ListEntry(post.video) for post in posts if post.video]
        if videos and {"video", "embedding"} & set(self.networks.inputs):
            frames, _ = sample_frames(videos, split)
            if frames is not None:
                return frames
        if "image" not in self.networks.inputs:
            return None
        pictures: list[np.ndarray] = []
        with DecodePool() as pool:
            for post in posts:
                for path in post.images[:1]:
                    try:
                        pictures += [f.image for f in picture_reader(path, split, pool, threading.Event())]
                    except MediaError:
                        continue  # reported when it is loaded
                if len(pictures) >= _MIN_PICTURES:
                    break
        return np.stack(pictures) if pictures else None

    def _write(self, item: Item, loaded: PostParts) -> Outcome:
        entry, output = item
        inputs = (_read_record(output) or {"inputs": {}})["inputs"]
        record = {
            "videotag_post": entry.path,
            "list": self.list_name,
            "fields": _digest_of(entry),
            "input": _place_of(entry, output),
            "inputs": inputs,
        }
        failed: list[Outcome] = []
        is_listed = True
        computed: dict[Input, np.ndarray] = {}
        for name in self.networks.inputs:
            part = loaded.parts.get(name)
            if part is None:
                continue
            try:
                inputs[name] = self._result(output, name, part, loaded, computed)
            except MediaError as error:
                inputs.pop(name, None)
                text = f"{entry.path}: {name}: {error}"
                failed.append(Outcome(entry.path, "failed", text, error.retriable, kind=name))
                is_listed &= self.networks.options.of(name).on_error == "missing"
        write_text(output, json.dumps(record, ensure_ascii=False, indent=1) + "\n")
        if not is_listed:
            return Outcome(entry.path, "failed", "; ".join(one.error for one in failed), parts=tuple(failed))
        warning, fields = _joined(loaded.warnings.values()), self._fields(output, record)
        return Outcome(entry.path, "written", warning=warning, fields=fields, parts=tuple(failed))

    def _result(
        self, output: Path, name: Input, part: Part, loaded: PostParts, computed: dict[Input, np.ndarray]
    ) -> dict[str, Any]:
        """The record of one input, whose features are written and added to `computed`.

        Raises:
            MediaError: The input cannot be read, or the network returns no numbers.
        """
        path = self._features_path(output, name)
        stamp, warning = self.networks.stamp(name), loaded.warnings.get(name)
        made = {"made_by": stamp, "made_from": loaded.identities.get(name, {}), "warning": warning}
        if isinstance(part, MissingInputError):
            path.unlink(missing_ok=True)  # of an earlier state of the sample
            return {"file": None, "missing": str(part), **made}
        if isinstance(part, MediaError):
            raise part
        rows, runtime = self._rows(name, part, computed)
        computed[name] = rows
        if not np.isfinite(rows).all():
            raise MediaError("the network returns NaN or infinite features; check the weights")
        facts = {"input": made["made_from"], "warning": warning, "runtime": runtime}
        write_features(path, rows, stamp={**stamp, **facts})
        words = {}
        if isinstance(part, Words):
            words = {"text": part.text, "findings": list(part.findings)}
        return {"file": str(path.relative_to(self.save_dir / name)), **made, **words}

    def _rows(
        self, name: Input, part: Frames | np.ndarray | Words, computed: Mapping[Input, np.ndarray]
    ) -> tuple[np.ndarray, str | None]:
        """The features (R, D) of an input, and the runtime of its network if that is selected.

        Args:
            name: Kind of input.
            part: What was read.
            computed: Features of earlier inputs of the sample.
        """
        networks = self.networks
        if isinstance(part, Words):
            assert networks.text_encoder is not None
            with networks.text_encoder.lock:
                return networks.text_encoder.encode([part.text]), None
        if name == "audio":
            assert isinstance(part, np.ndarray)
            return part, None
        assert networks.extractor is not None
        if name == "embedding":
            rows = computed["video"] if "video" in computed else self._frame_features(part)
            return self._embedding(rows), None
        frames = part if isinstance(part, Frames) else Frames(part, np.arange(len(part)), None, 0.0, None)
        return networks.extractor.features(frames), networks.extractor.network.runtime

    def _frame_features(self, part: Frames | np.ndarray) -> np.ndarray:
        """The features (T, D) of the frames of a video."""
        assert self.networks.extractor is not None
        return part if isinstance(part, np.ndarray) else self.networks.extractor.features(part)

    def _embedding(self, rows: np.ndarray) -> np.ndarray:
        """The embedding (1, E) of the features (T, D) of a video."""
        tagger = self.networks.tagger
        assert tagger is not None
        (name,) = (spec.name for spec in tagger.inputs if not spec.name.endswith(MASK))
        arrays = {name: rows[None], name + MASK: np.ones((1, len(rows)), bool)}
        return np.asarray(tagger.run(arrays)[EMBEDDING])


def _read_record(path: Path) -> dict[str, Any] | None:
    """The record of a sample; None if there is none, it is damaged, or another program wrote it."""
    try:
        record = read_json(path, error=OutputError, remedy="delete it")
    except OutputError:
        return None
    inputs = record.get("inputs") if isinstance(record, dict) and "videotag_post" in record else None
    is_own = isinstance(inputs, dict) and all(isinstance(one, dict) for one in inputs.values())
    return record if is_own else None


def _digest_of(entry: ListEntry) -> str | None:
    """SHA-256 of the fields of a sample of a JSON list; None for a listed video, which has its path."""
    if entry.fields is None:
        return None
    return hashlib.sha256(json.dumps(dict(entry.fields), sort_keys=True).encode()).hexdigest()


def _place_of(entry: ListEntry, output: Path) -> dict[str, Any]:
    """The identity of a listed video, see is_same_input; empty for a sample of a JSON list."""
    if entry.fields is not None:
        return {}
    try:
        return input_identity(entry.path, output)
    except MediaError:
        return {"path": path_from(output, entry.path)}


def _joined(warnings: Iterable[str | None]) -> str | None:
    """The warnings of a sample, each once; None if there are none."""
    return "; ".join(dict.fromkeys(filter(None, warnings))) or None
