"""The benchmark of record readers runs, and all its readers find every record."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "benchmark"))
import records

from videotag.formats.yt8m_records import write_yt8m


def test_the_table_has_a_line_for_every_reader_and_the_cores_come_back(capsys):
    cores = os.sched_getaffinity(0)
    assert records.main(["--records=3", "--steps=5", "--rounds=1"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^3 records of 5 steps, 0 MB, one core$", out, re.M)
    for name in records.readers():
        assert re.search(rf"^\| {re.escape(name)} \| [\d,]+ \| [\d,]+ \|$", out, re.M)
    assert "| tensorflow (tf.data) |" in out
    for name in records.FORMATS:
        assert re.search(rf"^\| {name} \| 0 \| [\d,]+ \| [\d,]+ \| [\d,]+ \| [\d,]+ \|$", out, re.M)
    assert os.sched_getaffinity(0) == cores


def test_every_reader_counts_the_same_records(tmp_path):
    write_yt8m(tmp_path / "some.tfrecord", records.generated(7, 2))
    assert [read(tmp_path / "some.tfrecord") for read in records.readers().values()] == [7] * len(
        records.readers()
    )


def test_every_format_holds_the_same_records(tmp_path):
    for name, (write, read) in records.FORMATS.items():
        assert write(tmp_path / name, records.generated(3, 2)) == 3
        assert records.fill_batches(read, tmp_path / name) == 3
        for found, expected in zip(read(tmp_path / name), records.generated(3, 2), strict=True):
            for modality, rows in expected.features.items():
                assert found.features[modality].tobytes() == rows.tobytes()
