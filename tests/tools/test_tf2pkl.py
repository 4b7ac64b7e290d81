"""tf2pkl.py: what becomes of TFRecords, what a second run does, what damage and signals leave."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import tf2pkl
import worker_processes

from videotag.errors import ConfigError
from videotag.formats.feature_files import read_modalities
from videotag.formats.filelist import read_filelist
from videotag.formats.shards import Shard
from videotag.formats.tf_example import Example, encode_example
from videotag.formats.tfrecord import write_records
from videotag.formats.yt8m_pickles import read_yt8m_pickle
from videotag.formats.yt8m_records import Segments, YT8MRecord, encode_yt8m, write_yt8m
from videotag.system.folder_lock import folder_lock

ROOT = Path(__file__).resolve().parents[2]
MODES = {"pkl": [], "split": ["--split"], "npy": ["--format=npy"], "shard": ["--format", "shard"]}


def ints(*values):
    return np.array(values, np.int64)


def record(index, num_steps=3):
    features = {
        name: ((np.arange(num_steps * dim) + index) % 251).astype(np.uint8).reshape(num_steps, dim)
        for name, dim in (("rgb", 6), ("audio", 2))
    }
    return YT8MRecord(f"id {index}", ints(index, 7), features)


def source(path, indices=range(3), **options):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_yt8m(path, map(record, indices), **options)
    return path


def run(capsys, *argv, jobs=1):
    code = tf2pkl.main([*map(str, argv), f"--jobs={jobs}"])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def converted(capsys, *argv, **options):
    """The first line of a run without failures."""
    code, out, err = run(capsys, *argv, **options)
    assert (code, err) == (0, "")
    return out.splitlines()[0]


def files(folder):
    """Content by name of all that a run leaves, but for the lock and the notes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.name != ".videotag.lock" and ".tf2pkl" not in path.parts
    }


def outputs(folder):
    return [name for name in files(folder) if not name.endswith((".list", ".jsonl"))]


def same(left, right):
    assert left.video_id == right.video_id
    assert left.labels.tolist() == right.labels.tolist()
    assert left.features.keys() == right.features.keys()
    for name, rows in right.features.items():
        np.testing.assert_array_equal(left.features[name], rows)
    for name, mean in right.means.items():
        np.testing.assert_array_equal(left.means[name], mean)
    assert (left.segments is None) == (right.segments is None)
    if right.segments is not None:
        assert left.segments.scores.tolist() == right.segments.scores.tolist()
    return True


# --- what is made -----------------------------------------------------------------------------------------


def test_a_pickle_per_file_holds_its_records(work_dir, capsys):
    source("in/train00.tfrecord")
    source("in/deep/validate1.tfrecord", [5], compression="gzip")
    assert converted(capsys, "in", "out") == "converted 2 files, kept 0, failed 0; 4 records"
    assert outputs("out") == ["deep/validate1.pkl", "train00.pkl"]
    assert all(map(same, read_yt8m_pickle("out/train00.pkl"), map(record, range(3))))
    assert same(read_yt8m_pickle("out/deep/validate1.pkl")[0], record(5))
    python = pickle.loads(Path("out/train00.pkl").read_bytes())
    assert [one["video"] for one in python] == ["id 0", "id 1", "id 2"]
    assert Path("out/train.list").read_text() == "out/train00.pkl\n"


def test_bytes_as_keys(work_dir, capsys):
    converted(capsys, source("train00.tfrecord"), "out", "--keys", "bytes")
    assert pickle.loads(Path("out/train00.pkl").read_bytes())[0][b"video"] == b"id 0"


def test_a_pickle_per_video(work_dir, capsys):
    converted(capsys, source("in/train00.tfrecord"), "out", "--split")
    names = [f"train00_split_{i}.pkl" for i in range(3)]
    assert outputs("out") == names
    for index, name in enumerate(names):
        assert pickle.loads(Path("out", name).read_bytes())["video"] == f"id {index}"
    assert Path("out/train.list").read_text() == "".join(f"out/{name}\n" for name in names)


def test_feature_files_with_labels_in_their_list(work_dir, capsys):
    odd = YT8MRecord("../名/x", ints(4), record(1).features)
    write_yt8m("train00.tfrecord", [record(0), odd, record(2, 0), record(3)])
    line = converted(capsys, "train00.tfrecord", "out", "--format=npy")
    assert line == "converted 1 files, kept 0, failed 0; 3 records, 1 without steps skipped"
    assert Path("out/train.list").read_text() == (
        "out/train00/0000_id_0.npz 0 7\nout/train00/0001______x.npz 4\nout/train00/0003_id_3.npz 3 7\n"
    )
    entries = read_filelist("out/train.list", labels="required")
    found = read_modalities(entries[1].path, {"rgb": 6, "audio": 2})
    rgb = odd.features["rgb"].astype(np.float64) * (4 / 255) + (4 / 512 - 2)
    np.testing.assert_array_equal(found["rgb"], rgb.astype(np.float32))


def test_a_shard_per_file(work_dir, capsys):
    converted(capsys, source("in/train00.tfrecord"), "out", *MODES["shard"])
    shard = Shard("out/train00.safetensors")
    assert all(same(shard.read(i), record(i)) for i in range(3))
    assert Path("out/train.list").read_text() == "out/train00.safetensors\n"


MEANS = YT8MRecord("a", ints(3), means={"mean_rgb": np.linspace(-2, 2, 6, dtype=np.float32)})
SEGMENTS = YT8MRecord(
    "a", ints(3), record(0).features, segments=Segments(ints(7), ints(5), np.ones(1, np.float32))
)


@pytest.mark.parametrize("one", [MEANS, SEGMENTS], ids=["means", "segments"])
def test_means_and_segments_are_converted(work_dir, capsys, one):
    write_yt8m("train00.tfrecord", [one])
    for mode in ("pkl", "split", "shard"):
        converted(capsys, "train00.tfrecord", "out", *MODES[mode])
    assert same(read_yt8m_pickle("out/train00.pkl")[0], one)
    assert same(read_yt8m_pickle("out/train00_split_0.pkl")[0], one)
    assert same(Shard("out/train00.safetensors").read(0), one)


def test_means_are_no_features_of_steps(work_dir, capsys):
    write_yt8m("train00.tfrecord", [MEANS])
    code, _, err = run(capsys, "train00.tfrecord", "out", "--format=npy")
    assert code == 1
    assert "train00.tfrecord: record 0 has video-level features, which .npz" in err
    assert outputs("out") == []


LISTS = {
    "all parts": (
        ["train1", "validate1", "test1", "mine"],
        {
            "train": ["train1"],
            "val": ["validate1"],
            "test": ["validate1"],
            "infer": ["test1"],
            "all": ["mine"],
        },
    ),
    "no test part": (
        ["validate1", "validate2"],
        {name: ["validate1", "validate2"] for name in ("val", "test", "infer")},
    ),
    "train alone": (["train1"], {"train": ["train1"]}),
}


@pytest.mark.parametrize(("names", "lists"), LISTS.values(), ids=LISTS)
def test_the_name_of_a_source_decides_the_list(work_dir, capsys, names, lists):
    for name in names:
        source(f"in/{name}.tfrecord", [0])
    converted(capsys, "in", "out")
    found = {path.stem: path.read_text().split() for path in Path("out").glob("*.list")}
    assert found == {name: [f"out/{base}.pkl" for base in bases] for name, bases in lists.items()}


def test_lists_name_what_earlier_runs_made_and_is_still_there(work_dir, capsys):
    source("a/train1.tfrecord")
    source("b/test1.tfrecord")
    converted(capsys, "a", "out")
    converted(capsys, "b", "out")
    assert Path("out/train.list").read_text() == "out/train1.pkl\n"
    assert Path("out/infer.list").read_text() == "out/test1.pkl\n"
    converted(capsys, "b", "out", "--format=shard")
    assert not Path("out/train.list").exists()
    assert Path("out/infer.list").read_text() == "out/test1.safetensors\n"
    assert len(outputs("out")) == 3


def test_patterns_and_packed_names(work_dir, capsys):
    source("in/x/train1.tfrecord.gz", compression="gzip")
    source("in/x/train2.tfrecord.zlib", compression="zlib")
    source("in/x/test1.tfrecord")
    converted(capsys, "in/*/train*", "out")
    assert outputs("out") == ["x/train1.pkl", "x/train2.pkl"]
    source("[odd].tfrecord")
    converted(capsys, "[odd].tfrecord", "other")
    assert outputs("other") == ["[odd].pkl"]


@pytest.mark.parametrize("mode", MODES)
def test_two_processes_make_the_same_as_one(work_dir, capsys, mode):
    for index in range(3):
        source(f"in/train{index}.tfrecord", range(index, index + 2))
    converted(capsys, "in", "one", *MODES[mode])
    assert converted(capsys, "in", "two", *MODES[mode], jobs=2).endswith("; 6 records")
    expected = {
        name: content.replace(b"one/", b"two/") if name.endswith(".list") else content
        for name, content in files("one").items()
    }
    assert files("two") == expected


# --- a second run -----------------------------------------------------------------------------------------


def times(folder):
    return {name: Path(folder, name).stat().st_ino for name in outputs(folder)}


@pytest.mark.parametrize("mode", MODES)
def test_a_second_run_makes_only_what_is_missing_or_changed(work_dir, capsys, mode):
    source("in/train1.tfrecord")
    source("in/train2.tfrecord")
    again = ["in", "out", *MODES[mode]]
    converted(capsys, *again)
    whole, first = files("out"), times("out")
    assert converted(capsys, *again) == "converted 0 files, kept 2, failed 0; 0 records"
    assert times("out") == first
    Path("out", outputs("out")[0]).unlink()
    assert converted(capsys, *again).startswith("converted 1 files, kept 1,")
    assert files("out") == whole
    source("in/train2.tfrecord", [8])
    os.utime("in/train2.tfrecord", ns=(1, 1))
    assert converted(capsys, *again) == "converted 1 files, kept 1, failed 0; 1 records"
    assert converted(capsys, "in", "fresh", *MODES[mode]).startswith("converted 2")
    assert outputs("out") == outputs("fresh")
    assert [files("out")[name] for name in outputs("out")] == [files("fresh")[n] for n in outputs("fresh")]


def test_other_keys_are_made_anew_and_a_damaged_note_does_not_count(work_dir, capsys):
    source("in/train1.tfrecord")
    converted(capsys, "in", "out")
    assert converted(capsys, "in", "out", "--keys=bytes").startswith("converted 1 files")
    assert converted(capsys, "in", "out", "--keys=bytes").startswith("converted 0 files")
    for content in ("{", "[]", "[" * 100_000, '{"other": 1}', '{"outputs": 3}'):
        Path("out/.tf2pkl/pkl/train1.json").write_text(content)
        assert converted(capsys, "in", "out", "--keys=bytes").startswith("converted 1 files")


# --- files of others --------------------------------------------------------------------------------------


def refused(capsys, *argv):
    """The lines of a refusal, which changes nothing."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    return err.removeprefix("tf2pkl.py: ").splitlines()


@pytest.mark.parametrize(
    "content", ["in/train1.tfrecord\n", "yt8m/train1.pkl\n", "out/mine.pkl\n", "notes of mine"]
)
def test_a_list_of_the_user_is_never_replaced_unasked(work_dir, capsys, content):
    source("in/train1.tfrecord")
    Path("out").mkdir()
    for name in ("train", "all"):  # one is written, and both would be removed
        Path(f"out/{name}.list").write_text(content)
    lines = [
        f"out/{name}.list: a list that tf2pkl.py did not write for this folder; give another DST, or "
        "--overwrite"
        for name in ("train", "all")
    ]
    assert refused(capsys, "in", "out") == lines
    converted(capsys, "in", "out", "--overwrite")
    assert Path("out/train.list").read_text() == "out/train1.pkl\n"
    converted(capsys, "in", "out")


def test_a_list_of_the_user_among_lists_of_the_tool_stays(work_dir, capsys):
    source("in/train1.tfrecord")
    converted(capsys, "in", "out")
    Path("out/val.list").write_text("elsewhere/a.pkl\n")
    assert "out/val.list: a list that tf2pkl.py did not write" in refused(capsys, "in", "out")[0]


def test_a_source_is_never_replaced_by_a_list(work_dir, capsys):
    source("in/train1.tfrecord")
    Path("out").mkdir()
    os.link("in/train1.tfrecord", "out/train.list")
    for more in ([], ["--overwrite"]):
        (line,) = refused(capsys, "in", "out", *more)
        assert line == "out/train.list: is the same file as the input in/train1.tfrecord; give another DST"


PLACES = {
    "pkl": "train1.pkl",
    "split": "train1_split_0.pkl",
    "npy": "train1/0000_x.npz",
    "shard": "train1.safetensors",
}


@pytest.mark.parametrize("mode", MODES)
def test_files_of_others_are_not_removed_unasked(work_dir, capsys, mode):
    source("in/train1.tfrecord")
    path = Path("out", PLACES[mode])
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    (line,) = refused(capsys, "in", "out", *MODES[mode])
    assert line == f"{path}: exists and was not written by tf2pkl.py; give another DST, or --overwrite"
    converted(capsys, "in", "out", *MODES[mode], "--overwrite")
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    os.link("in/train1.tfrecord", path)
    Path("out/.tf2pkl").rename("gone")
    assert refused(capsys, "in", "out", *MODES[mode], "--overwrite") == [
        f"{path}: is the same file as the input in/train1.tfrecord; give another DST"
    ]


@pytest.mark.parametrize("mode", MODES)
def test_two_sources_of_two_runs_that_would_have_one_output(work_dir, capsys, mode):
    source("a/train1.tfrecord", [1])
    source("b/train1.tfrecord", [1, 2])
    converted(capsys, "a", "out", *MODES[mode])
    (line,) = refused(capsys, "b", "out", *MODES[mode])
    assert line.endswith(
        ": was made from another file than b/train1.tfrecord; give another DST, or --overwrite"
    )
    assert converted(capsys, "a", "out", *MODES[mode]).startswith("converted 0 files, kept 1")
    assert converted(capsys, "b", "out", *MODES[mode], "--overwrite").startswith("converted 1 files")
    Path("b").rename("c")
    assert converted(capsys, "c", "out", *MODES[mode]).startswith("converted 0 files, kept 1"), "moved"


def test_foreign_failures_are_not_removed(work_dir, capsys):
    source("in/train1.tfrecord")
    Path("out").mkdir()
    Path("out/failures.jsonl").write_text("mine\n")
    (line,) = refused(capsys, "in", "out")
    assert line.startswith("out/failures.jsonl: exists and was not written by videotag; give another DST")


# --- damage -----------------------------------------------------------------------------------------------


def damage(path, number):
    """Flips a byte in the last record of a file; where that record begins."""
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    return sum(len(encode_yt8m(record(i))) + 16 for i in range(number))


@pytest.mark.parametrize("mode", MODES)
def test_a_damaged_file_is_named_and_the_others_are_converted(work_dir, capsys, mode):
    offset = damage(source("in/train1.tfrecord"), 2)
    source("in/train2.tfrecord")
    line = f"in/train1.tfrecord: record 2 at byte {offset}: wrong checksum of the data: damaged; download or"
    for _ in range(2):  # the second run tries again
        code, out, err = run(capsys, "in", "out", *MODES[mode])
        assert code == 1
        assert err.startswith(f"tf2pkl.py: {line}")
        assert len(err.splitlines()) == 1
        assert out.splitlines()[0].endswith(", failed 1; 3 records") or "kept 1" in out
        assert out.splitlines()[-1] == "failures: out/failures.jsonl"
        (failure,) = map(json.loads, Path("out/failures.jsonl").read_text().splitlines())
        assert failure.keys() == {"source", "retriable", "error"}
        assert failure["source"] == "in/train1.tfrecord"
        assert failure["error"].startswith(line)
        assert all("train2" in name for name in outputs("out"))
        assert "train1" not in Path("out/train.list").read_text()
    source("in/train1.tfrecord")
    assert converted(capsys, "in", "out", *MODES[mode]) == "converted 1 files, kept 1, failed 0; 3 records"
    assert not Path("out/failures.jsonl").exists()


@pytest.mark.parametrize("mode", MODES)
def test_the_records_before_a_damage_are_kept_where_asked(work_dir, capsys, mode):
    damage(source("in/train1.tfrecord"), 2)
    code, out, err = run(capsys, "in", "out", *MODES[mode], "--keep_partial")
    assert code == 1
    assert out.startswith("converted 0 files, kept 0, failed 1; 2 records\n")
    assert err.endswith("; its first 2 records are kept\n")
    source("in/train1.tfrecord", range(2))
    converted(capsys, "in", "fresh", *MODES[mode])
    assert [files("out")[n] for n in outputs("out")] == [files("fresh")[n] for n in outputs("fresh")]
    assert "train1" in Path("out/train.list").read_text()


@pytest.mark.parametrize("mode", MODES)
def test_of_a_file_damaged_from_its_start_nothing_is_kept(work_dir, capsys, mode):
    Path("train1.tfrecord").write_bytes(b"rubbish that is no record")
    code, _, err = run(capsys, "train1.tfrecord", "out", *MODES[mode], "--keep_partial")
    assert code == 1
    assert "record 0 at byte 0: wrong checksum of the length" in err
    assert list(files("out")) == ["failures.jsonl"]


def test_records_that_a_format_cannot_hold_fail_alone(work_dir, capsys):
    other = YT8MRecord("b", ints(), {"rgb": record(0).features["rgb"]})
    write_yt8m("in/train1.tfrecord", [record(0), other])
    source("in/train2.tfrecord")
    code, out, err = run(capsys, "in", "out", "--format=shard")
    assert (code, out.splitlines()[0]) == (1, "converted 1 files, kept 0, failed 1; 3 records")
    assert "record 1 (b): modalities rgb, but earlier records have audio, rgb; write a separate" in err
    step = (np.zeros(3, np.uint8).tobytes(),)
    write_records("in/train1.tfrecord", [encode_example(Example({"id": (b"a",)}, {"a/b": [step]}))])
    code, _, err = run(capsys, "in", "out", "--format=npy")
    assert code == 1
    assert "modality 'a/b', expected letters, digits, _ . and -; rename it" in err


# --- mistakes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["in", "out", "--split", "--format=npy"], "--split: for --format pkl, but it is npy; remove it"),
        (
            ["in", "out", "--keys=str", "--format=shard"],
            "--keys: for --format pkl, but it is shard; remove it",
        ),
        (["in", "in/../in"], "in/../in: holds the sources themselves; give another DST"),
        (["in/a.tfrecord", "in"], "in: holds the sources themselves"),
        (
            ["gone", "out"],
            "gone: no such file or folder; download YouTube-8M's files first, or correct the path",
        ),
        (["in/x*", "out"], "in/x*: no file matches; download"),
        (["empty", "out"], "empty: no *.tfrecord in this folder or below it; download"),
        (
            ["twice", "out"],
            "twice/a.tfrecord.gz: would write out/a.pkl, the output of twice/a.tfrecord; rename one",
        ),
        (["twice", "out", "--split"], "would write out/a_split_*.pkl, the output of twice"),
        (["line", "out"], "a list cannot hold an empty path, a line break or NUL; rename the file"),
        (["in", "file"], "file: cannot write"),
        (["in", "out", "--jobs=0"], "'0' is not an integer of at least 1"),
    ],
)
def test_a_mistake_is_named_before_any_work(work_dir, capsys, argv, message):
    source("in/a.tfrecord")
    Path("empty").mkdir()
    source("twice/a.tfrecord")
    source("twice/a.tfrecord.gz")
    source("line/a\nb.tfrecord")
    Path("file").touch()
    before = sorted(work_dir.rglob("*"))
    assert tf2pkl.main(argv) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("tf2pkl.py: ")
    assert sorted(work_dir.rglob("*")) == before


def test_two_runs_at_a_time_are_refused(work_dir, capsys):
    source("in/a.tfrecord")
    with folder_lock(Path("out")):
        code, _, err = run(capsys, "in", "out")
    assert code == 2
    assert "out: another videotag process uses this folder; wait until it ends, or choose another DST" in err


# --- processes --------------------------------------------------------------------------------------------


def test_no_worker_loads_paddle():
    code = "import sys, tf2pkl, record_conversion; sys.exit('paddle' in sys.modules)"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tools")])
    assert not subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths}).returncode


def test_workers_return_what_they_make_and_a_lost_one_is_named():
    with worker_processes.run_jobs(abs, [-1, -2, -3], num_workers=2) as done:
        assert sorted(done) == [(-3, 3), (-2, 2), (-1, 1)]
    with (
        pytest.raises(ConfigError, match="--jobs 2: the system killed a worker, usually for lack of memory"),
        worker_processes.run_jobs(os._exit, [1, 1], num_workers=2) as done,
    ):
        list(done)


STUCK = """
import os, signal, sys
sys.path[:0] = [{root!r}, {tools!r}]
import record_conversion
read = record_conversion.read_yt8m
def stuck(path):
    for number, record in enumerate(read(path)):
        if number == 2 and "train0" not in path:
            os.write(1, b"stuck\\n")  # in one piece: both workers write here
            signal.pause()
        yield record
record_conversion.read_yt8m = stuck  # the workers import this file too
if __name__ == "__main__":
    import tf2pkl
    sys.exit(tf2pkl.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "mode", ["split", *(pytest.param(mode, marks=pytest.mark.slow) for mode in MODES if mode != "split")]
)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_whatever_ends_a_run_nothing_is_half_and_the_next_one_goes_on(work_dir, capsys, mode, end):
    for index in range(3):
        source(f"in/train{index}.tfrecord")
    Path("stuck.py").write_text(STUCK.format(root=str(ROOT), tools=str(ROOT / "tools")))
    with subprocess.Popen(
        [sys.executable, "stuck.py", "in", "out", *MODES[mode], "--jobs=2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        said = [process.stdout.readline(), process.stdout.readline()]
        if end == signal.SIGINT:
            os.killpg(process.pid, end)  # as a terminal does
        else:
            process.send_signal(end)
        _, err = process.communicate()  # returns when no worker holds the pipes any more
    assert said == ["stuck\n", "stuck\n"], err
    if end == signal.SIGINT:
        assert (process.returncode, err) == (130, "tf2pkl.py: interrupted\n")
        assert not [path for path in Path("out").rglob("*") if ".partial" in path.name]
    assert not list(Path("out").glob("*.list"))
    assert [path.name for path in Path("out").rglob("*.json")] == ["train0.json"]
    assert converted(capsys, "in", "out", *MODES[mode]) == "converted 2 files, kept 1, failed 0; 6 records"
    converted(capsys, "in", "new", *MODES[mode])
    assert {name: re.sub(b"out/", b"new/", content) for name, content in files("out").items()} == files("new")


def test_a_note_of_wrong_values_costs_little_memory(tmp_path):
    (tmp_path / "a.json").write_text('{"sizes": [' + '"a",' * 1_900_000 + "0]}", encoding="utf-8")
    code = (
        "import resource, sys; sys.path.insert(0, 'tools')\n"
        "from pathlib import Path; from record_conversion import read_note\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert read_note(Path(sys.argv[1])) is None\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "a.json")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150
