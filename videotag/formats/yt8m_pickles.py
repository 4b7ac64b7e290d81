"""YouTube-8M records as pickles, the files that PaddlePaddle's tf2pkl.py makes from the TFRecords.

A file is a list of dicts {'video': id, 'feature': (T, 1024) uint8, 'audio': (T, 128) uint8, 'label': [int],
'nframes': int}, or one such dict. `feature` is the modality rgb. Rows from `nframes` on are padding.
Differs: nothing is unpickled (see pickles.py); other modalities, means and segments keep the names that they
have in records. Shapes: T steps, D feature width.
"""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np

from videotag.errors import RecordError
from videotag.formats.pickles import (
    BoundedReader,
    array_parts,
    bytes_fragment,
    fragment,
    load,
    scalar_fragment,
)
from videotag.formats.tf_example import Example, Feature, FeatureList
from videotag.formats.yt8m_records import YT8MRecord, encode_id, make_record, segment_fields, validated
from videotag.safe_text import escaped, safe_repr
from videotag.system.atomic import open_atomic
from videotag.system.regular_file import open_regular

Keys: TypeAlias = Literal["str", "bytes"]

MAX_STEPS = 300  # largest `nframes` written
_MAX_ID = 2**10  # characters; a hostile file may repeat an id in each of 100,000 records
_OWN_NAMES = {"rgb": "feature"}  # modality -> key in the dict
_PLAIN_KEYS = ("video", "label", "nframes")
_Value = TypeVar("_Value")
_AGAIN = "convert it again from its TFRecords"


def read_yt8m_pickle(path: str | Path, *, dims: Mapping[str, int | None] | None = None) -> list[YT8MRecord]:
    """The records of a pickle in file order, written by Python 2 or 3.

    Args:
        path: A pickle of any protocol that holds a list of records or one record. It is read as a whole.
        dims: Modality -> width D (None: any), for the modalities to read; None reads all.

    Returns:
        The records, [] for an empty list. Features have min(T, nframes) steps and are read-only.

    Raises:
        RecordError: The file is missing, truncated or damaged, holds anything but plain values and numeric
            arrays, or a record does not have the layout above.
    """
    content, is_python_2 = _read(path)
    items = content if isinstance(content, list) else [content]
    memo = _Memo()
    return [
        memo.get("record", item, partial(_record, item, dims, memo, f"{path}: record {number}", is_python_2))
        for number, item in enumerate(items)
    ]


def write_yt8m_pickle(
    path: str | Path, records: Iterable[YT8MRecord], *, keys: Keys = "str", single: bool = False
) -> int:
    """Writes records as a pickle, atomically; equal records give equal bytes.

    Uses protocol 3, the latest one that every Python 3 reads and that can be written record by record.

    Args:
        path: The file to write.
        records: Records, consumed one at a time. All steps are written; `nframes` is at most 300.
        keys: "str" writes keys and ids as text, "bytes" as Python 2 does for PaddlePaddle's older readers.
        single: Whether to write one dict instead of a list; requires exactly one record.

    Returns:
        Number of records written.

    Raises:
        RecordError: `single` is set but there is not exactly one record, or the format reserves the name of a
            modality.
        ShapeError: `validated` refuses a record.
        OutputError: The file cannot be written.
    """
    count = 0
    with open_atomic(path) as file:
        file.write(b"\x80\x03" if single else b"\x80\x03]")
        for record in records:
            if single and count:
                raise RecordError(f"{path}: more than one record for a single-record file; write a list")
            file.writelines(_record_parts(record, keys, place=f"{path}: record {count}"))
            if not single:
                file.write(b"a")
            count += 1
        if single and not count:
            raise RecordError(f"{path}: no record for a single-record file; write a list")
        file.write(b".")
    return count


def _read(path: str | Path) -> tuple[object, bool]:
    """The content of a pickle, and whether its texts may be bytes of Python 2."""
    try:
        with open_regular(path, error=RecordError) as file:
            head = file.read(2)
            file.seek(0)
            size = os.fstat(file.fileno()).st_size
            reader = BoundedReader(file, size)
            try:
                content = load(reader)
            except pickle.UnpicklingError as error:
                raise RecordError(f"{path}: at byte {size - reader.remaining}: {error}") from error
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file; correct the path") from None
    except OSError as error:
        raise RecordError(f"{path}: cannot read ({error.strerror or error})") from error
    return content, not head.startswith(b"\x80") or head <= b"\x80\x02"


class _Memo:
    """Converts each object of a file once; a hostile file may refer to one object many times."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, int], Any] = {}

    def get(self, kind: str, value: object, build: Callable[[], _Value]) -> _Value:
        """The result of `build` for this `kind` and `value`, cached."""
        key = kind, id(value)
        if key not in self._made:
            self._made[key] = build()
        return self._made[key]


def _record(
    item: object, dims: Mapping[str, int | None] | None, memo: _Memo, place: str, is_python_2: bool
) -> YT8MRecord:
    """The record in one dict."""
    if not isinstance(item, dict):
        raise RecordError(f"{place}: of type {type(item).__name__}, expected a dict with 'video'; {_AGAIN}")
    values = {memo.get("name", key, partial(_name, key, place)): value for key, value in item.items()}
    if len(values) < len(item):
        raise RecordError(f"{place}: a key occurs twice, as text and as bytes; {_AGAIN}")
    if "video" not in values:
        there = escaped(", ".join(values), limit=200) or "nothing"
        raise RecordError(f"{place}: no 'video'; found {there}; is it a YouTube-8M pickle?")
    make_id = partial(_id_bytes, values["video"], place, is_python_2=is_python_2)
    video_id = memo.get("id", values["video"], make_id)
    context: dict[str, Feature] = {
        "id": (video_id,),
        "labels": memo.get(
            "labels", values.get("label", ()), partial(_labels, values.get("label", ()), place)
        ),
    }
    lists: dict[str, FeatureList] = {}
    for key, value in values.items():
        name = "rgb" if key == "feature" else key
        if key in _PLAIN_KEYS or not isinstance(value, np.ndarray):
            continue
        if name in lists:
            raise RecordError(f"{place}: both 'feature' and 'rgb', which mean the same; remove one of them")
        if value.ndim == 2:
            lists[name] = value
        elif value.ndim == 1:
            dtype = np.float32 if np.issubdtype(value.dtype, np.floating) else np.int64
            context[name] = memo.get("vector", value, partial(value.astype, dtype, copy=False))
        else:
            raise RecordError(
                f"{place}: {safe_repr(key)} of shape {safe_repr(value.shape)}, expected (T, D) bytes; "
                f"{_AGAIN}"
            )
    record = make_record(Example(context, lists), dims=dims, place=place)
    if "nframes" in values:
        _cut(record.features, values["nframes"], place)
    return record


def _cut(features: dict[str, np.ndarray], num_steps: object, place: str) -> None:
    """Cuts features (T, D), by modality, to `num_steps` steps, in place."""
    there = max((len(steps) for steps in features.values()), default=0)
    if isinstance(num_steps, np.ndarray) and num_steps.shape in ((), (1,)):
        num_steps = num_steps.reshape(())[()]
    if not isinstance(num_steps, (int, np.integer)) or num_steps < 0:
        seen = (
            safe_repr(num_steps)
            if isinstance(num_steps, (int, float))
            else f"of type {type(num_steps).__name__}"
        )
        raise RecordError(f"{place}: nframes {seen}, expected a number of steps; {_AGAIN}")
    if num_steps > there and features:
        raise RecordError(f"{place}: nframes {safe_repr(num_steps)}, but only {there} steps; {_AGAIN}")
    for name, steps in features.items():
        features[name] = steps[: int(num_steps)]


def _name(key: object, place: str) -> str:
    if isinstance(key, bytes):
        return key.decode("utf-8", "surrogateescape")
    if not isinstance(key, str):
        raise RecordError(f"{place}: {safe_repr(key)} as a key, expected text; {_AGAIN}")
    return key


def _id_bytes(video_id: object, place: str, *, is_python_2: bool) -> bytes:
    """The bytes of an id; ids written by Python 2 have been decoded as Latin-1."""
    if isinstance(video_id, np.ndarray) and video_id.shape == ():
        video_id = video_id[()]
    if isinstance(video_id, (str, bytes, bytearray)) and len(video_id) > _MAX_ID:
        raise RecordError(
            f"{place}: 'video' of {len(video_id)} characters, expected at most {_MAX_ID}; {_AGAIN}"
        )
    if isinstance(video_id, (bytes, bytearray)):
        return bytes(video_id)
    if not isinstance(video_id, str):
        raise RecordError(
            f"{place}: 'video' of type {type(video_id).__name__}, expected the id as text or bytes; {_AGAIN}"
        )
    if is_python_2:
        try:
            raw = video_id.encode("latin1")
            raw.decode()
            return raw
        except UnicodeError:  # it was text
            pass
    try:
        return encode_id(video_id)
    except UnicodeEncodeError:
        raise RecordError(f"{place}: 'video' {safe_repr(video_id)} is not valid text; {_AGAIN}") from None


def _labels(labels: Any, place: str) -> np.ndarray:
    """(L,) int64 from a list, tuple or array of class ids."""
    # The message does not show the value: the text of lists that contain each other can be endless.
    problem = RecordError(
        f"{place}: 'label' of type {type(labels).__name__}, expected a list of class ids; {_AGAIN}"
    )
    if not isinstance(labels, (list, tuple, np.ndarray)):
        raise problem
    if isinstance(labels, np.ndarray):
        whole = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    else:
        whole = all(isinstance(one, (int, np.integer)) and not isinstance(one, bool) for one in labels)
    if not whole:
        raise problem
    try:
        return np.array(labels, np.int64)
    except OverflowError:
        raise problem from None


def _record_parts(record: YT8MRecord, keys: Keys, *, place: str) -> Iterator[bytes]:
    """Yields the pickled dict of a record in parts."""
    text = fragment if keys == "str" else _encoded_fragment
    record = validated(record)
    segments = {} if record.segments is None else segment_fields(record.segments)
    taken = Counter([*_PLAIN_KEYS, *_OWN_NAMES.values(), *segments, *record.features, *record.means])
    if clash := [name for name, count in taken.items() if count > 1]:
        raise RecordError(f"{place}: modality {', '.join(clash)}: the name is already used; rename it")
    arrays = {**record.features, **record.means, **segments}
    yield b"}(" + text("video") + text(record.video_id)
    for name, array in arrays.items():
        yield text(_OWN_NAMES.get(name, name) if name in record.features else name)
        try:
            yield from array_parts(array, protocol=3)
        except ValueError as error:
            raise RecordError(f"{place}: {name}: {error}; cut the video") from error
    num_steps = max((len(steps) for steps in record.features.values()), default=0)
    yield text("label") + fragment(record.labels.tolist())
    if record.features:
        yield text("nframes") + scalar_fragment(np.int32(min(num_steps, MAX_STEPS)))
    yield b"u"


def _encoded_fragment(name: str) -> bytes:
    return bytes_fragment(encode_id(name))
