"""Measures how many YouTube-8M records per second one core reads, with this project's and other readers.

    python tools/benchmark/records.py
    python tools/benchmark/records.py --tensorflow_python=/other/venv/bin/python

Writes one file of generated frame-level records. Every reader turns all of it into (T, 1024) and (T, 128)
uint8 arrays, ids and labels, on the same core, from a warm page cache; the fastest of several rounds counts.
The PyPI package tfrecord does not verify checksums, all others do. On a busy machine, look at processor time.

On an EPYC core shared with other work, records/s (per second of processor time):
videotag 4,276 (9,509), protobuf 939 (1,647), tfrecord 474 (752), tf.data of TensorFlow 2.21 1,643 (2,483).

A second table compares formats: reading record by record, and also copying into the rows of a (32, 300, D)
batch, as a loader does. The formats take turns. The records of a shard are views of the file, so only the
second number moves data.

On the same core, 500 records, five rounds, records/s into a batch (per second of processor time):
TFRecord 5,730 (8,784), TFRecord gzip 401 (807), pickle 1,648 (2,872), shard 14,607 (28,951). A shard is 2.5
times as fast as TFRecords (3.3 by processor time) and allows random access, but has no checksums. Pickles
spend most of their time on memory allocation, as a file is read as a whole. gzip does not shrink random
bytes, and real features only a little.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import contextlib
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from videotag.formats.shards import Shard, write_shard
from videotag.formats.tfrecord import read_records
from videotag.formats.yt8m_pickles import MAX_STEPS, read_yt8m_pickle, write_yt8m_pickle
from videotag.formats.yt8m_records import YT8M_DIMS, YT8MRecord, read_yt8m, write_yt8m

BATCH_SIZE = 32
ReadRecords: TypeAlias = Callable[[Path], Iterable[YT8MRecord]]
DIMS = {name: YT8M_DIMS[name] for name in ("rgb", "audio")}
#: message -> (field, its message or type, repeated); the schema of tensorflow/core/example.
SCHEMA: dict[str, list[tuple[str, str, bool]]] = {
    "BytesList": [("value", "bytes", True)],
    "FloatList": [("value", "float", True)],
    "Int64List": [("value", "int64", True)],
    "Feature": [
        ("bytes_list", "BytesList", False),
        ("float_list", "FloatList", False),
        ("int64_list", "Int64List", False),
    ],
    "Features": [("feature", "map of Feature", True)],
    "FeatureList": [("feature", "Feature", True)],
    "FeatureLists": [("feature_list", "map of FeatureList", True)],
    "SequenceExample": [("context", "Features", False), ("feature_lists", "FeatureLists", False)],
}
TENSORFLOW = """
import os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
path, rounds = sys.argv[1], int(sys.argv[2])
context = {"id": tf.io.FixedLenFeature([], tf.string), "labels": tf.io.VarLenFeature(tf.int64)}
lists = {name: tf.io.FixedLenSequenceFeature([], tf.string) for name in ("rgb", "audio")}
def parse(data):
    found, steps = tf.io.parse_single_sequence_example(data, context, lists)
    return found["id"], found["labels"].values, *(tf.io.decode_raw(steps[name], tf.uint8) for name in lists)
records = tf.data.TFRecordDataset(path).map(parse)
for _ in range(rounds):
    wall, cpu = time.perf_counter(), time.process_time()
    count = sum(1 for _ in records.as_numpy_iterator())
    print(count / (time.perf_counter() - wall), count / (time.process_time() - cpu))
"""


def main(argv: list[str] | None = None) -> int:
    """Writes the file, runs the readers and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", default=1000, type=int)
    parser.add_argument("--steps", default=300, type=int)
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--tensorflow_python", default=sys.executable, help="a Python that has tensorflow")
    args = parser.parse_args(argv)
    with one_core(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.tfrecord"
        write_yt8m(path, generated(args.records, args.steps))
        print(f"{args.records} records of {args.steps} steps, {path.stat().st_size / 1e6:.0f} MB, one core")
        print("| reader | records/s | per second of processor time |\n|---|---|---|")
        for name, read in readers().items():
            show(name, [timed(read, path) for _ in range(args.rounds)])
        show("tensorflow (tf.data)", tensorflow_rates(args.tensorflow_python, path, args.rounds))
        show_formats(path, args.rounds)
    return 0


def show_formats(path: Path, rounds: int) -> None:
    """Prints the table of formats: the records of `path` in each format, read, and read into a batch."""
    print("\n| format | MB | records/s | per second of processor time | into a batch | of processor time |")
    print("|---|---|---|---|---|---|")
    paths = {name: path.with_name(f"format-{index}") for index, name in enumerate(FORMATS)}
    rates: dict[str, list[tuple[float, ...]]] = {name: [] for name in FORMATS}
    for name, (write, _) in FORMATS.items():
        write(paths[name], read_yt8m(path))
    for _ in range(rounds):  # in turn, so that other work on the machine meets all of them
        for name, (_, read) in FORMATS.items():
            seen = timed(partial(count_records, read), paths[name])
            rates[name].append((*seen, *timed(partial(fill_batches, read), paths[name])))
    for name, found in rates.items():
        cells = [f"{max(column):,.0f}" for column in zip(*found, strict=True)]
        print(f"| {name} | {paths[name].stat().st_size / 1e6:.0f} | {' | '.join(cells)} |")


def count_records(read: ReadRecords, path: Path) -> int:
    """Reads all records; returns their number."""
    return sum(1 for _ in read(path))


def fill_batches(read: ReadRecords, path: Path) -> int:
    """Copies the features of every record into its row of a batch, as a loader does; returns their number."""
    batch = {name: np.zeros((BATCH_SIZE, MAX_STEPS, dim), np.uint8) for name, dim in DIMS.items()}
    count = 0
    for record in read(path):
        for name, rows in record.features.items():
            kept = rows[:MAX_STEPS]
            batch[name][count % BATCH_SIZE, : len(kept)] = kept
        count += 1
    return count


def read_shard(path: Path) -> Iterator[YT8MRecord]:
    """Yields the records of a shard in order."""
    shard = Shard(path, dims=DIMS)
    return (shard.read(index) for index in range(len(shard)))


#: name -> (writer, reader) of every format that holds YouTube-8M's records.
FORMATS: dict[str, tuple[Callable[..., int], ReadRecords]] = {
    "TFRecord": (write_yt8m, partial(read_yt8m, dims=DIMS)),
    "TFRecord gzip": (partial(write_yt8m, compression="gzip"), partial(read_yt8m, dims=DIMS)),
    "pickle": (write_yt8m_pickle, partial(read_yt8m_pickle, dims=DIMS)),
    "shard": (write_shard, read_shard),
}


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Pins this process and its children to one core inside the block, where supported (Linux)."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def generated(count: int, num_steps: int) -> Iterator[YT8MRecord]:
    """Yields records of random bytes, which resemble quantized features."""
    generator = np.random.default_rng(0)
    for index in range(count):
        features = {
            name: generator.integers(0, 256, (num_steps, dim), np.uint8) for name, dim in DIMS.items()
        }
        yield YT8MRecord(f"{index:04d}", generator.integers(0, 3862, 3), features)


def readers() -> dict[str, Callable[[Path], int]]:
    """The installed readers by name; each reads a file and returns its number of records."""
    found: dict[str, Callable[[Path], int]] = {"videotag": read_by_videotag}
    if importlib.util.find_spec("google.protobuf"):
        found["protobuf, framed by videotag"] = read_by_protobuf
    if importlib.util.find_spec("tfrecord"):
        found["tfrecord (no checksums)"] = read_by_tfrecord
    return found


def read_by_videotag(path: Path) -> int:
    """Reads with this project's reader."""
    return sum(1 for _ in read_yt8m(path, dims=DIMS))


def read_by_protobuf(path: Path) -> int:
    """Reads with the official protobuf parser; one join concatenates the steps."""
    sequence_example = protobuf_message("SequenceExample")
    count = 0
    for data, _ in read_records(path):
        message = sequence_example.FromString(data)
        context, lists = message.context.feature, message.feature_lists.feature_list
        context["id"].bytes_list.value[0].decode()
        np.array(context["labels"].int64_list.value, np.int64)
        for name, dim in DIMS.items():
            steps = b"".join([step.bytes_list.value[0] for step in lists[name].feature])
            np.frombuffer(bytearray(steps), np.uint8).reshape(-1, dim)  # (T, D), writable
        count += 1
    return count


def read_by_tfrecord(path: Path) -> int:
    """Reads with the PyPI package tfrecord."""
    loader = importlib.import_module("tfrecord.reader").tfrecord_loader
    context = {"id": "byte", "labels": "int"}
    count = 0
    for _, lists in loader(str(path), None, context, sequence_description=dict.fromkeys(DIMS, "byte")):
        for name in DIMS:
            np.stack([np.frombuffer(step, np.uint8) for step in lists[name]])  # (T, D)
        count += 1
    return count


def protobuf_message(name: str) -> Any:
    """A message class of tensorflow/core/example, made from SCHEMA by the official package."""
    descriptors = importlib.import_module("google.protobuf.descriptor_pb2")
    pool = importlib.import_module("google.protobuf.descriptor_pool").DescriptorPool()
    file = descriptors.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    for message_name, message_fields in SCHEMA.items():
        message = file.message_type.add(name=message_name)
        for number, (field_name, kind, repeated) in enumerate(message_fields, 1):
            if kind.startswith("map of "):
                kind = add_map_entry(message, field_name, kind.removeprefix("map of "))
            field = add_field(message, field_name, number, kind)
            field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
        if message_name == "Feature":
            message.oneof_decl.add(name="kind")
            for field in message.field:
                field.oneof_index = 0
    pool.Add(file)
    factory = importlib.import_module("google.protobuf.message_factory")
    return factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.{name}"))


def add_map_entry(message: Any, field_name: str, kind: str) -> str:
    """Adds the message type of a map entry; returns its name."""
    name = "".join(map(str.capitalize, field_name.split("_"))) + "Entry"
    entry = message.nested_type.add(name=name)
    entry.options.map_entry = True
    add_field(entry, "key", 1, "string")
    add_field(entry, "value", 2, kind)
    return f"{message.name}.{name}"


def add_field(message: Any, name: str, number: int, kind: str) -> Any:
    """Adds a field of a plain type or of another message."""
    field = message.field.add(name=name, number=number, label=1)
    if kind in ("bytes", "float", "int64", "string"):
        field.type = getattr(field, f"TYPE_{kind.upper()}")
    else:
        field.type = field.TYPE_MESSAGE
        field.type_name = f".tensorflow.{kind}"
    return field


def timed(read: Callable[[Path], int], path: Path) -> tuple[float, float]:
    """Records per second, and per second of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = read(path)
    return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)


def tensorflow_rates(python: str, path: Path, rounds: int) -> list[tuple[float, float]]:
    """The rates of tf.data, measured in a separate process; empty if TensorFlow is not installed."""
    command = [python, "-c", TENSORFLOW, str(path), str(rounds)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode and "No module named 'tensorflow'" not in done.stderr:
        print(done.stderr, file=sys.stderr)
    numbers = [float(word) for word in done.stdout.split()]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def show(name: str, rates: list[tuple[float, float]]) -> None:
    """Prints a line of the table, with the fastest round of each kind."""
    if rates:
        walls, cpus = zip(*rates, strict=True)
        print(f"| {name} | {max(walls):,.0f} | {max(cpus):,.0f} |", flush=True)
    else:
        print(f"| {name} | not installed | |")


if __name__ == "__main__":
    exit_with(main())
