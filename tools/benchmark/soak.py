"""Sends many generated records through conversion, loading and evaluation; checks that memory does not grow.

    python tools/benchmark/soak.py                  # 200,000 records of 12 steps: 9 GB on disk, some minutes
    python tools/benchmark/soak.py --records 5000

Memory is what the processes of a stage have allocated (Linux's RssAnon), without mapped files. Growth is the
change from the third to the last quarter of a stage's time; the exit code is 1 if it exceeds
--most_growth_mb. The memory that metrics need for every video (up to 900 bytes in `eval`, when they sort at
the end) is subtracted.
"""

from __future__ import annotations

from videotag.system.signals import exit_with

import argparse
import multiprocessing
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from process_family import family

from videotag.config import load_config
from videotag.datasets.record_dataset import RecordDataset
from videotag.formats.filelist import ListEntry
from videotag.formats.yt8m_records import YT8MRecord, write_yt8m
from videotag.inference.data import evaluation_batches, open_dataset
from videotag.inference.evaluate import evaluate, in_layers
from videotag.metrics import PerClass
from videotag.models import load_models
from videotag.training.batches import training_batches

ROOT = Path(__file__).resolve().parents[2]
DIMS = {"rgb": 1024, "audio": 128}
RECORDS_PER_FILE = 1600  # about as in YouTube-8M
KEPT_BYTES = 900  # per video, in GAP and per-class AP when they sort at the end
CONFIG = "configs/mean_pool_yt8m.yaml"


@dataclass
class Stage:
    """Speed and memory of one stage.

    Attributes:
        name: Name of the stage.
        records: Number of records.
        seconds: Duration of the stage.
        kept_mb: Memory in MB that must be kept for every video.
        anon_mb: Allocated memory in MB, sampled evenly over the stage.
    """

    name: str
    records: int
    seconds: float = 0.0
    kept_mb: float = 0.0
    anon_mb: list[float] = field(default_factory=list)

    @property
    def growth_mb(self) -> float:
        """Growth of memory from the third to the last quarter in MB, without kept_mb; at least 0."""
        quarter = max(1, len(self.anon_mb) // 4)
        third, last = self.anon_mb[-2 * quarter : -quarter], self.anon_mb[-quarter:]
        return max(0.0, max(last) - max(third) - self.kept_mb) if third else 0.0

    def row(self) -> str:
        half = self.anon_mb[len(self.anon_mb) // 2]
        return (
            f"{self.name:<24}{self.records / self.seconds:>12,.0f}{half:>12.0f}{max(self.anon_mb):>12.0f}"
            f"{self.growth_mb:>12.0f}"
        )


def main(argv: list[str] | None = None) -> int:
    """Runs all stages and prints a row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", default=200_000, type=int)
    parser.add_argument("--steps", default=12, type=int, help="steps of the longest video (YouTube-8M: 300)")
    parser.add_argument("--most_growth_mb", default=60.0, type=float)
    parser.add_argument("--formats", default="pkl,shard", help="formats of tf2pkl (default: %(default)s)")
    args = parser.parse_args(argv)
    print(f"{'stage':<24}{'records/s':>12}{'MB halfway':>12}{'peak MB':>12}{'growth MB':>12}")
    stages = []
    with tempfile.TemporaryDirectory() as folder:
        for stage in run_stages(Path(folder), args.records, args.steps, args.formats.split(",")):
            print(stage.row(), flush=True)
            stages.append(stage)
    grown = [stage.name for stage in stages if stage.growth_mb > args.most_growth_mb]
    if grown:
        print(f"memory grows in: {', '.join(grown)}")
    return 1 if grown else 0


def run_stages(folder: Path, num_records: int, num_steps: int, formats: list[str]) -> Iterator[Stage]:
    """Yields the stages: generation, conversion to every format, an epoch of loading each, and evaluation."""
    source = folder / "tfrecord"
    yield measured("write TFRecords", num_records, partial(generate, source, num_records, num_steps))
    for name in formats:
        work = partial(convert, source, folder / name, name)
        yield measured(f"tf2pkl --format {name}", num_records, work)
    for kind in ("tfrecord", *formats):
        paths = sorted(str(p) for p in (folder / kind).iterdir() if p.suffix != ".list" and p.is_file())
        paths = [path for path in paths if path.endswith((".tfrecord", ".pkl", ".safetensors"))]
        yield measured(f"an epoch of {kind}", num_records, partial(load, paths, num_records))
    paths = sorted(str(p) for p in source.iterdir())
    kept_mb = num_records * KEPT_BYTES / 1e6
    yield measured("evaluate", num_records, partial(score, paths, num_records), kept_mb=kept_mb)


def generate(folder: Path, num_records: int, num_steps: int) -> None:
    """Writes records with random features and labels; class frequencies follow Zipf's law."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for start in range(0, num_records, RECORDS_PER_FILE):
        count = min(RECORDS_PER_FILE, num_records - start)
        records = (random_record(f"v{start + i}", num_steps, rng) for i in range(count))
        write_yt8m(folder / f"train{start // RECORDS_PER_FILE:04}.tfrecord", records)


def random_record(video_id: str, num_steps: int, rng: np.random.Generator) -> YT8MRecord:
    length = int(rng.integers(num_steps // 2, num_steps + 1))
    labels = np.unique(rng.zipf(1.5, 3) % 3862)
    content = rng.bytes(length * sum(DIMS.values()))
    rows = np.frombuffer(content, np.uint8).reshape(length, -1)
    return YT8MRecord(video_id, labels, {"rgb": rows[:, :1024], "audio": rows[:, 1024:]})


def convert(source: Path, folder: Path, file_format: str) -> None:
    """Runs tf2pkl.py with one process per core."""
    argv = [sys.executable, str(ROOT / "tools" / "tf2pkl.py"), str(source), str(folder)]
    subprocess.run([*argv, "--format", file_format], stdout=subprocess.DEVNULL, check=True)


def load(paths: list[str], num_records: int) -> None:
    """Loads one shuffled epoch in batches of 128."""
    load_models()
    config = load_config(CONFIG, overrides=[("TRAIN.batch_size", 128), ("TRAIN.shuffle_buffer", 4096)])
    dataset = open_dataset(config, [ListEntry(path) for path in paths], config.train)
    assert isinstance(dataset, RecordDataset)
    batches = training_batches(config, dataset, epoch=0, seed=0, on_error=refuse)
    assert sum(len(batch.ids) for batch in batches if batch) == num_records


def score(paths: list[str], num_records: int) -> None:
    """Computes all metrics of an untrained network."""
    load_models()
    config = load_config(CONFIG)
    dataset = open_dataset(config, [ListEntry(path) for path in paths], config.test)
    batches = evaluation_batches(dataset, config.test, on_error=refuse)
    metrics = evaluate(
        in_layers(config.entry.cls(config.model)), batches, observers=[PerClass(threshold=0.5)]
    )
    assert metrics["num_videos"] == num_records


def refuse(video: str, error: Exception) -> None:
    raise error


def measured(name: str, records: int, work: Callable[[], None], *, kept_mb: float = 0.0) -> Stage:
    """Runs `work` in a separate process, so that stages do not affect each other, and measures it."""
    stage = Stage(name, records, kept_mb=kept_mb)
    process = multiprocessing.get_context("spawn").Process(target=work)
    start = time.perf_counter()
    process.start()
    while process.is_alive():
        stage.anon_mb.append(sum(anon_mb(pid) for pid in family(process.pid or 0)))
        process.join(0.2)
    stage.seconds = time.perf_counter() - start
    if process.exitcode:
        raise SystemExit(f"{name}: ended with {process.exitcode}")
    return stage


def anon_mb(pid: int | str) -> float:
    """Anonymous resident memory of a process in MB; 0 if it is gone."""
    try:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    except OSError:
        return 0.0
    return int(found[1]) / 1e3 if found else 0.0


if __name__ == "__main__":
    exit_with(main())
