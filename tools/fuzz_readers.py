"""The readers that tools/fuzz.py feeds, one for every kind of file that a user may bring, and their seeds.

Imports happen in `seeds` and `read`, so that `--help` is quick.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
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


def _read_config_beside(path: Path) -> object:
    from videotag.config import load_config
    from videotag.models import load_models

    load_models()
    return load_config(path, beside_weights=True)


def _write_config_beside(path: Path) -> None:
    path.write_text(_CONFIG + "INFER: {filelist: data/test.list, backend: onnx}\n", encoding="utf-8")


def _read_models(path: Path) -> object:
    from videotag.weights import read_entries

    return [(entry.present(), entry.remedy) for entry in read_entries(path).values()]


def _read_export(path: Path) -> object:
    from videotag.runtime.exported import export_config
    from videotag.weights import FoundWeights

    return FoundWeights(path).labels(None, export_config(path).model)


def _write_export(path: Path) -> None:
    """An export.json, and beside it the files that it names, except the network."""
    (path.parent / "config.yaml").write_text(_CONFIG, encoding="utf-8")
    (path.parent / "labels.txt").write_text("cat\ndog\n", encoding="utf-8")
    names = ("config.yaml", "labels.txt")
    files = {name: hashlib.sha256((path.parent / name).read_bytes()).hexdigest() for name in names}
    array = {"name": "rgb", "shape": [None, None, 4], "dtype": "float32"}
    manifest = {
        "format_version": 1,
        "name": "MeanPool",
        "model": "MeanPool",
        "kind": "tagger",
        "task": "multi_label",
        "backend": "onnx",
        "precision": "f32",
        "inputs": [array, {"name": "rgb.mask", "shape": [None, None], "dtype": "bool"}],
        "outputs": [{"name": "logits", "shape": [None, 2], "dtype": "float32"}],
        "files": files | {"network.onnx": "0" * 64},
        "source_weights": [{"file": "tiny.pdparams", "sha256": "0" * 64}],
        "thresholds": {"decision": 0.5, "top_k": 20},
        "parity": {"max_difference": 1e-6},
        "versions": {"onnxruntime": "1.20"},
    }
    path.write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def _read_checkpoint(path: Path) -> None:
    """Uses the file as the card of the newer of two checkpoints; if it is damaged, the older one is found."""
    from videotag.training.run_state import load_newest

    (path.parent / "M_epoch1.json").write_bytes(path.read_bytes())
    assert load_newest(path.parent, "M") is not None, "no checkpoint found"


def _write_checkpoint(path: Path) -> None:
    from videotag.formats.weight_files import write_pdparams
    from videotag.training.run_state import Progress, checkpoint_path, save_state

    for epoch in (0, 1):
        weights_path = checkpoint_path(path.parent, "M", epoch)
        write_pdparams(weights_path, {"fc.weight": np.ones((2, 3), np.float32)})
        best = {"gap": 0.5, "loss": None}
        progress = Progress(epoch=epoch + 1, seed=0, videos="a", valid="b", best_epoch=0, best=best)
        save_state(weights_path, {"moment": np.ones(3, np.float32)}, progress)
    path.write_bytes(weights_path.with_suffix(".json").read_bytes())


def _read_runtime(path: Path) -> object:
    from videotag.inference.frozen_runtime import read_frozen

    return read_frozen(path)


def _read_frames_info(path: Path) -> object:
    from videotag.media.frame_folder import INFO_FILE, read_info

    (path.parent / INFO_FILE).write_bytes(path.read_bytes())
    return read_info(path.parent)


def _read_record_index(path: Path) -> object:
    from videotag.formats.record_index import index_records

    cache = path.with_name("cache.npz")
    cache.write_bytes(path.read_bytes())
    return index_records([str(path.with_name("records.tfrecord"))], cache=cache)


def _write_record_index(path: Path) -> None:
    from videotag.formats.record_index import index_records

    records = path.with_name("records.tfrecord")
    _write_records(records)
    index_records([str(records)], cache=path)


def _read_network_cache(path: Path) -> object:
    from videotag.runtime.network_cache import MANIFEST_FILE, compiled_dir, digest_of, load_entry

    os.environ["VIDEOTAG_CACHE"] = str(path.parent)
    parts = {"network": "a"}
    folder = compiled_dir() / digest_of(parts)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a").write_bytes(b"content")
    (folder / MANIFEST_FILE).write_bytes(path.read_bytes())
    return load_entry(parts)


def _write_network_cache(path: Path) -> None:
    path.write_text(json.dumps({"a": hashlib.sha256(b"content").hexdigest()}), encoding="utf-8")


def _read_conversion_note(path: Path) -> object:
    from record_conversion import read_note

    return read_note(path)


def _read_metrics(path: Path) -> None:
    from videotag.formats.predictions import read_metrics
    from videotag.reports.tags_report import write_report

    write_report(path.with_suffix(".html"), [], metrics=read_metrics(path))


def _read_csv(path: Path) -> object:
    from videotag.errors import FileListError, one_error
    from videotag.fit.video_sources import CsvOptions, videos_in_csv

    videos, problems = videos_in_csv(path, CsvOptions(), group_by="folder")
    if problems:
        raise one_error(FileListError, problems)
    return videos


def _read_pictures(path: Path) -> object:
    from videotag.media.frame_folder import FRAME_NAME, FolderReader

    (path.parent / FRAME_NAME.format(1)).write_bytes(path.read_bytes())
    return [frame.repeats for frame in FolderReader(path.parent, 1, 1, short_side_px=16)]


def _write_picture(path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(path, format="JPEG")


def _text_seed(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text, encoding="utf-8")


def _read_yaml(path: Path) -> object:
    from videotag.errors import ConfigError
    from videotag.formats.yaml_text import read_yaml

    return read_yaml(path, error=ConfigError, remedy="correct it")


def _read_labels(path: Path) -> object:
    from videotag.labels import read_labels

    return read_labels(path)


def _read_filelist(path: Path) -> object:
    from videotag.formats.filelist import read_filelist

    read_filelist(path, must_exist=False)
    return read_filelist(path)


def _read_features(path: Path) -> object:
    from videotag.formats.feature_files import read_features, read_stamp

    read_stamp(path)
    return read_features(path)


def _write_features(path: Path) -> None:
    from videotag.formats.feature_files import write_features

    write_features(path, np.ones((3, 4), np.float32), stamp={"extractor": "TSN", "seg_num": 3})


def _read_modalities(path: Path) -> object:
    from videotag.formats.feature_files import list_modalities, read_modalities

    return read_modalities(path, dict.fromkeys(list_modalities(path)))


def _write_modalities(path: Path) -> None:
    from videotag.formats.feature_files import write_modalities

    write_modalities(path, {"rgb": np.ones((3, 4), np.float32), "audio": np.ones((3, 2), np.float32)})


def _read_weights(path: Path) -> object:
    from videotag.formats.weight_files import read_weights

    return read_weights(path)


def _write_pdparams(path: Path) -> None:
    from videotag.formats.weight_files import write_pdparams

    write_pdparams(path, {"fc.weight": np.ones((2, 3), np.float32), "fc.bias": np.zeros(3, np.float32)})


def _write_tar(path: Path) -> None:
    content = path.with_suffix(".pdparams")
    _write_pdparams(content)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(content, "weights/a.pdparams")


def _write_safetensors(path: Path) -> None:
    from videotag.formats.weight_files import write_safetensors

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
    from videotag.reports.tags_report import write_report

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


_CONFIG = "MODEL: {name: MeanPool, num_classes: 2, feature_names: [rgb], feature_dims: [4]}\n"
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
_RIFF = (b"RIFF", b"LIST", b"movi", b"idx1", b"indx", b"strh", b"AVIX", b"00dc", b"\xff\xff\xff\xff")

#: Name -> reader; files of tests/fuzz/NAME, if there are any, join its seeds.
READERS = {
    "config": Reader(".yaml", _read_config, _copy_of("configs", "attention_lstm.yaml"), _YAML),
    "yaml": Reader(".yaml", _read_yaml, _copy_of("weights", "models.yaml"), _YAML),
    "config_beside": Reader(".yaml", _read_config_beside, _write_config_beside, _YAML),
    "models": Reader(".yaml", _read_models, _copy_of("weights", "models.yaml"), _YAML),
    "labels": Reader(".txt", _read_labels, _copy_of("data", "examples", "labels.txt"), _TEXT),
    "filelist": Reader(".list", _read_filelist, _copy_of("data", "examples", "train.list"), _TEXT),
    "features": Reader(".npy", _read_features, _write_features, _NPY),
    "modalities": Reader(".npz", _read_modalities, _write_modalities, _ZIP),
    "weights": Reader(".pdparams", _read_weights, _write_pdparams, _PICKLE),
    "safetensors": Reader(".safetensors", _read_weights, _write_safetensors, _JSON),
    "archive": Reader(".tar", _read_weights, _write_tar),
    "pickle": Reader(".pkl", _read_pickle, _write_pickle, _PICKLE),
    "records": Reader(".tfrecord", _read_records, _write_records),
    "shard": Reader(".safetensors", _read_shard, _write_shard, (*_JSON, b"data_offsets", b"shape", b"dtype")),
    "predictions": Reader(".json", _read_predictions, _write_predictions, _JSON),
    "metrics": Reader(
        ".json", _read_metrics, _text_seed('{"gap": 0.5, "top1": null, "num_videos": 3}'), _JSON
    ),
    "export": Reader(".json", _read_export, _write_export, _JSON),
    "checkpoint": Reader(".json", _read_checkpoint, _write_checkpoint, _JSON),
    "runtime": Reader(
        ".json", _read_runtime, _text_seed('{"backend": "openvino", "precision": "bf16"}'), _JSON
    ),
    "frames_info": Reader(
        ".json",
        _read_frames_info,
        _text_seed('{"num_frames": 3, "warning": null, "input": {"size": 9}}'),
        _JSON,
    ),
    "record_index": Reader(".npz", _read_record_index, _write_record_index, _ZIP),
    "network_cache": Reader(".json", _read_network_cache, _write_network_cache, _JSON),
    "conversion_note": Reader(
        ".json", _read_conversion_note, _text_seed('{"outputs": [["a.npz", [1]]], "num_records": 1}'), _JSON
    ),
    "csv": Reader(".csv", _read_csv, _text_seed("path,labels\nREADME.md,cat|dog\n,\n"), _TEXT),
    "pictures": Reader(".jpg", _read_pictures, _write_picture),
    "avi": Reader(
        ".avi", _read_video, _copy_of("tests", "media", "cases", "timeline", "avi_copied_from_mp4.avi"), _RIFF
    ),
    "video": Reader(".mp4", _read_video, _write_video, _BOXES),
}
