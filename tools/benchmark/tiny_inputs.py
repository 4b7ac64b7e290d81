"""Small made-up inputs of every kind that videotag reads; every run writes the same bytes.

They are made without videotag, because same_results.py compares two versions of it on them.
Shapes: T steps or frames, D feature width, H and W pixels.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import av
import crc32c
import numpy as np

NUM_CLASSES = 5  # of features and records
NUM_SHAPES = 3  # classes of clips
FEATURE_DIM = 16  # of features of one modality
RECORD_DIMS = {"rgb": 12, "audio": 6}  # of records
COUNTS = {"train": 12, "val": 4, "test": 3}
CLIP_FRAMES = 8
FILM_FRAMES = 20
FILM_TAGS = ("red", "green", "blue", "moves left", "moves right", "street")

#: A record: id, class ids, modality -> (T, D) uint8.
Record: TypeAlias = "tuple[str, list[int], dict[str, np.ndarray]]"


def write_inputs(folder: Path) -> None:
    """Writes all inputs and their lists, whose entries are relative to the folder.

    KIND/SPLIT.list is the list of a split of COUNTS. The kinds are: features (.npy), npz (.npz of two
    modalities), tfrecord and pickle (records of two modalities), clips (MP4 of 8 frames with one label) and
    films (MP4 of 20 frames with several labels). Class names: labels.txt of features and records, shapes.txt
    of clips, film_labels.txt of films.
    """
    rng = np.random.default_rng(0)
    _write_text(folder / "labels.txt", [f"tag {number}" for number in range(NUM_CLASSES)])
    _write_text(folder / "shapes.txt", [f"shape {number}" for number in range(NUM_SHAPES)])
    _write_text(folder / "film_labels.txt", FILM_TAGS)
    for split, count in COUNTS.items():
        _write_features(folder, split, count, rng)
        records = [_record(f"{split}{number}", rng) for number in range(count)]
        _write_npz(folder, split, records)
        _write_packed(folder, "tfrecord", split, records, write_tfrecords)
        _write_packed(folder, "pickle", split, records, write_pickle)
        _write_videos(folder, "clips", split, [_clip(number, rng) for number in range(count)])
        _write_videos(folder, "films", split, [_film(number, rng) for number in range(count)])


# ---------------------------------------------------------------- features and records


def _write_features(folder: Path, split: str, count: int, rng: np.random.Generator) -> None:
    lines = []
    for number in range(count):
        labels = _labels(rng)
        x = rng.standard_normal((int(rng.integers(1, 9)), FEATURE_DIM))  # (T, D)
        x[rng.integers(len(x)), labels] += 3.0
        name = f"features/{split}{number}.npy"
        (folder / name).parent.mkdir(exist_ok=True)
        np.save(folder / name, x.astype(np.float32))
        lines.append(_line(name, labels))
    _write_text(folder / "features" / f"{split}.list", lines)


def _write_npz(folder: Path, split: str, records: Iterable[Record]) -> None:
    lines = []
    for video_id, labels, features in records:
        name = f"npz/{video_id}.npz"
        (folder / name).parent.mkdir(exist_ok=True)
        arrays: dict[str, Any] = {key: x.astype(np.float32) / 64 - 2 for key, x in features.items()}
        np.savez(folder / name, **arrays)
        lines.append(_line(name, labels))
    _write_text(folder / "npz" / f"{split}.list", lines)


def _write_packed(
    folder: Path, kind: str, split: str, records: list[Record], write: Callable[[Path, list[Record]], None]
) -> None:
    """Writes records into two files, so that an epoch crosses a file's end, and the list of the two."""
    names = [f"{kind}/{split}{part}.{kind}" for part in range(2)]
    (folder / kind).mkdir(exist_ok=True)
    for part, name in enumerate(names):
        write(folder / name, records[part::2])
    _write_text(folder / kind / f"{split}.list", names)


def _record(video_id: str, rng: np.random.Generator) -> Record:
    labels, steps = _labels(rng), int(rng.integers(2, 9))
    features = {
        name: rng.integers(96, 160, (steps, dim), dtype=np.uint8) for name, dim in RECORD_DIMS.items()
    }
    features["rgb"][rng.integers(steps), labels] = 255
    return video_id, labels, features


def _labels(rng: np.random.Generator) -> list[int]:
    return sorted(int(c) for c in rng.choice(NUM_CLASSES, size=int(rng.integers(1, 3)), replace=False))


def write_pickle(path: Path, records: Iterable[Record]) -> None:
    """Writes records as PaddlePaddle's tf2pkl.py does: a pickled list of dicts."""
    dicts = [
        {
            "video": video_id,
            "feature": features["rgb"],
            "audio": features["audio"],
            "label": labels,
            "nframes": len(features["rgb"]),
        }
        for video_id, labels, features in records
    ]
    path.write_bytes(pickle.dumps(dicts, protocol=3))


def write_tfrecords(path: Path, records: Iterable[Record]) -> None:
    """Writes records as YouTube-8M was published: a TFRecord file of tf.SequenceExample."""
    with path.open("wb") as file:
        for record in records:
            data = _sequence_example(*record)
            length = struct.pack("<Q", len(data))
            file.write(length + _masked_crc(length) + data + _masked_crc(data))


def _masked_crc(data: bytes) -> bytes:
    """TFRecord's checksum: CRC32C, rotated, plus a constant."""
    crc = crc32c.crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _sequence_example(video_id: str, labels: list[int], features: dict[str, np.ndarray]) -> bytes:
    """The message: context {id, labels}, feature lists {modality: a byte string per step}."""
    texts = partial(_field, 1)  # bytes_list of a Feature; int64_list is 3
    context = _entry("id", texts(_field(1, video_id.encode())))
    context += _entry(
        "labels", _field(3, _field(1, bytes(labels)))
    )  # packed varints; below 128, one byte each
    lists = b"".join(
        _entry(name, b"".join(_field(1, texts(_field(1, row.tobytes()))) for row in x))
        for name, x in features.items()
    )
    return _field(1, context) + _field(2, lists)


def _entry(key: str, value: bytes) -> bytes:
    """One entry of a protobuf map that is field 1."""
    return _field(1, _field(1, key.encode()) + _field(2, value))


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field of protobuf's wire format."""
    length, head = len(payload), [number << 3 | 2]
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    return bytes([*head, length]) + payload


# ---------------------------------------------------------------- videos


def _clip(number: int, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Noise with one bright colour channel, (T, 48, 64, 3), and the channel as its label."""
    frames = rng.integers(0, 90, (CLIP_FRAMES, 48, 64, 3), dtype=np.uint8)
    frames[..., number % NUM_SHAPES] += 120
    return frames, [number % NUM_SHAPES]


def _film(number: int, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """A coloured square that crosses a random background, (T, 120, 160, 3), and ids of FILM_TAGS."""
    colour, goes_right = number % 3, number % 2
    picture = rng.integers(60, 140, (15, 20, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    frames = np.repeat(picture[None], FILM_FRAMES, axis=0)  # (T, 120, 160, 3)
    for step, frame in enumerate(frames if goes_right else frames[::-1]):
        frame[40:80, 6 * step : 6 * step + 40] = 255 * np.eye(3, dtype=np.uint8)[colour]
    return frames, [colour, 3 + goes_right, 5]


def _write_videos(folder: Path, kind: str, split: str, videos: list[tuple[np.ndarray, list[int]]]) -> None:
    lines = []
    for number, (frames, labels) in enumerate(videos):
        name = f"{kind}/{split}/{number}.mp4"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / name, frames)
        lines.append(_line(name, labels))
    _write_text(folder / kind / f"{split}.list", lines)


def write_video(path: Path, frames: np.ndarray) -> None:
    """Writes frames (T, H, W, 3) uint8 as H.264 at 10 frames per second."""
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=10, options={"qp": "18", "preset": "veryfast"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the bytes depend on it
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _line(name: str, labels: Iterable[int]) -> str:
    return " ".join([name, *map(str, labels)])


def _write_text(path: Path, lines: Iterable[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
