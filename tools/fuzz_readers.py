"""The readers that tools/fuzz.py feeds, one for every kind of file that a user may bring, and their seeds.

Imports happen in `seeds` and `read`, so that `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from videotag.formats.yt8m_records import YT8MRecord

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        suffix: Suffix of its files.
        read: Reads the file at a path.
        seed: Writes a good file to a path.
        tokens: Pieces that mean something in its format.
    """

    suffix: str
    read: Callable[[Path], object]
    seed: Callable[[Path], object]
    tokens: tuple[bytes, ...] = ()

    def seeds(self, folder: Path) -> list[bytes]:
        """Contents of good files, made below `folder`."""
        path = folder / f"seed{self.suffix}"
        self.seed(path)
        return [path.read_bytes()]


def _copy_of(*parts: str) -> Callable[[Path], object]:
    """A seed that is a file of the project."""
    return lambda path: path.write_bytes(ROOT.joinpath(*parts).read_bytes())


def _read_config(path: Path) -> object:
    from videotag.config import load_config
    from videotag.models import load_models

    load_models()
    return load_config(path)


def _read_yaml(path: Path) -> object:
    from videotag.errors import ConfigError
    from videotag.formats.yaml_text import read_yaml

    return read_yaml(path, error=ConfigError, remedy="mend it")


def _read_labels(path: Path) -> object:
    from videotag.labels import read_labels

    return read_labels(path)


def _read_filelist(path: Path) -> object:
    from videotag.formats.filelist import read_filelist

    return read_filelist(path, must_exist=False)


def _read_features(path: Path) -> object:
    from videotag.formats.features import read_features, read_stamp

    read_stamp(path)
    return read_features(path)


def _write_features(path: Path) -> None:
    from videotag.formats.features import write_features

    write_features(path, np.ones((3, 4), np.float32), stamp={"extractor": "TSN", "seg_num": 3})


def _read_modalities(path: Path) -> object:
    from videotag.formats.features import list_modalities, read_modalities

    return read_modalities(path, dict.fromkeys(list_modalities(path)))


def _write_modalities(path: Path) -> None:
    from videotag.formats.features import write_modalities

    write_modalities(path, {"rgb": np.ones((3, 4), np.float32), "audio": np.ones((3, 2), np.float32)})


def _read_weights(path: Path) -> object:
    from videotag.formats.weights import read_weights

    return read_weights(path)


def _write_pdparams(path: Path) -> None:
    from videotag.formats.weights import write_pdparams

    write_pdparams(path, {"fc.weight": np.ones((2, 3), np.float32), "fc.bias": np.zeros(3, np.float32)})


def _write_safetensors(path: Path) -> None:
    from videotag.formats.weights import write_safetensors

    write_safetensors(path, {"fc.weight": np.ones((2, 3), np.float32)})


def _records() -> list[YT8MRecord]:
    from videotag.formats.yt8m_records import YT8MRecord

    features = {"rgb": np.ones((2, 4), np.uint8), "audio": np.ones((2, 3), np.uint8)}
    return [YT8MRecord(f"id{k}", np.array([k, 3]), features) for k in range(3)]


def _read_pickle(path: Path) -> object:
    from videotag.formats.yt8m_pickles import read_yt8m_pickle

    return read_yt8m_pickle(path)


def _write_pickle(path: Path) -> None:
    from videotag.formats.yt8m_pickles import write_yt8m_pickle

    write_yt8m_pickle(path, _records())


def _read_records(path: Path) -> object:
    from videotag.formats.yt8m_records import read_yt8m

    return list(read_yt8m(path))


def _write_records(path: Path) -> None:
    from videotag.formats.yt8m_records import write_yt8m

    write_yt8m(path, _records())


def _read_shard(path: Path) -> object:
    from videotag.formats.record_files import open_record_file, read_sizes

    sizes = read_sizes(str(path))
    shard = open_record_file(str(path), sizes)
    return [shard.read(number) for number in range(min(len(sizes), 1000))]


def _write_shard(path: Path) -> None:
    from videotag.formats.shards import write_shard

    write_shard(path, _records())


def _read_predictions(path: Path) -> None:
    from videotag.formats.predictions import read_predictions
    from videotag.report import write_report

    write_report(path.with_suffix(".html"), read_predictions(path))


def _write_predictions(path: Path) -> None:
    path.write_text(
        '[{"video_id": "a.mp4", "duration_sec": 3.0, "warning": null, "attention": {"rgb": [0.5, 0.5]},'
        ' "tags": [{"class_id": 1, "class_name": "cat", "probability": 0.5}], "segments": [{"start_sec": 0,'
        ' "end_sec": 3, "tags": []}]}]',
        encoding="utf-8",
    )


def _read_video(path: Path) -> object:
    from videotag.media.video import FrameReader

    return [frame.repeats for frame in FrameReader(path, 3, short_side_px=16, num_threads=1)]


def _write_video(path: Path) -> None:
    from videotag.media.writer import write_video

    write_video(path, [np.full((16, 16, 3), 40 * k, np.uint8) for k in range(4)], fps=25)


_JSON = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b":",
    b",",
    b"null",
    b"true",
    b"NaN",
    b"1e999",
    b"\\ud800",
    b"[" * 50_000,
)
_YAML = (
    *(b"&a ", b"*a", b"<<: ", b"? ", b"- ", b": ", b"!!set ", b"!!timestamp ", b"!!binary ", b"!!omap "),
    *(b"!!python/object:os.system ", b"1:59:59", b"2020-99-99", b"0x", b"1_0", b".nan", b"---\n", b"...\n"),
    *(b"&b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n", b"[" * 5000, b"%YAML 9.9\n", b"\t", b"\x00", b"\xff\xfe"),
)
_TEXT = (
    b"\n",
    b"\t",
    b" ",
    b",",
    b";",
    b'"',
    b"'",
    b"#",
    b"\x00",
    b"\x1b[2J",
    b"\xe2\x80\xae",
    b"\xff",
    b"9" * 30,
)
_PICKLE = (
    *(
        b"\x80\x04",
        b"c__builtin__\neval\n",
        b"\x93",
        b"(",
        b"t",
        b"R",
        b"\x81",
        b"\x92",
        b"b",
        b"}",
        b"]",
        b"e",
    ),
    *(b"\x8c\x04name", b"\x85", b"\x86", b"\x94", b"h\x00", b"j\xff\xff\xff\xff", b"\x8a\xff", b"\x8b", b"."),
    *(b"\x86" * 20_000, b"]" * 20_000, b"(" * 20_000, b"\x8e" + b"\xff" * 8, b"\x95" + b"\xff" * 8),
)
_NPY = (b"'descr'", b"'shape'", b"True", b"|O", b"<f4", b"(", b")", b",", b"\x93NUMPY\x02\x00")
_ZIP = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"rgb.npy", b"\xff\xff\xff\xff")
_BOXES = tuple(b"moov mvhd trak tkhd mdia stbl stsz stts ctts stco stsc elst dref url tfdt trun sidx".split())

#: Name -> reader; files of tests/fuzz/NAME, if there are any, join its seeds.
READERS = {
    "config": Reader(".yaml", _read_config, _copy_of("configs", "attention_lstm.yaml"), _YAML),
    "yaml": Reader(".yaml", _read_yaml, _copy_of("weights", "models.yaml"), _YAML),
    "labels": Reader(".txt", _read_labels, _copy_of("data", "examples", "labels.txt"), _TEXT),
    "filelist": Reader(".list", _read_filelist, _copy_of("data", "examples", "train.list"), _TEXT),
    "features": Reader(".npy", _read_features, _write_features, _NPY),
    "modalities": Reader(".npz", _read_modalities, _write_modalities, _ZIP),
    "weights": Reader(".pdparams", _read_weights, _write_pdparams, _PICKLE),
    "safetensors": Reader(".safetensors", _read_weights, _write_safetensors, _JSON),
    "pickle": Reader(".pkl", _read_pickle, _write_pickle, _PICKLE),
    "records": Reader(".tfrecord", _read_records, _write_records),
    "shard": Reader(".safetensors", _read_shard, _write_shard, (*_JSON, b"data_offsets", b"shape", b"dtype")),
    "predictions": Reader(".json", _read_predictions, _write_predictions, _JSON),
    "video": Reader(".mp4", _read_video, _write_video, _BOXES),
}
