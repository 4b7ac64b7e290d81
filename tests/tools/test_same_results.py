"""What same_results.py reports as a difference, and which files it compares with."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "benchmark"))
import same_cases
import same_results
import tiny_inputs
import user_commands

from videotag.formats.yt8m_pickles import read_yt8m_pickle
from videotag.formats.yt8m_records import read_yt8m

ROOT = Path(__file__).resolve().parents[2]
RESULTS = {
    "a.yaml": {"losses": [0.5, 0.25], "weights": "ff", "exports": {"onnx": {"top_k": 3}}},
    "b.yaml": {"predictions": {"x.npy": "3:0.5"}},
}


def lines(before, after, **options):
    return list(same_results.differences(before, after, **options))


def cases(results):
    return {name: lambda work, found=found: copy.deepcopy(found) for name, found in results.items()}


@pytest.fixture
def made(monkeypatch):
    """Results that the next run of the tool gets in place of those of commands; may be changed."""
    results = copy.deepcopy(RESULTS)
    monkeypatch.setattr(same_results, "all_cases", lambda *, quick: cases(results))
    return results


def test_equal_results_have_no_difference():
    assert lines(RESULTS, copy.deepcopy(RESULTS)) == []


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("a.yaml", "losses", 1), 0.25000000000000006, "a.yaml: losses/1: was 0.25, is 0.25000000000000006"),
        (("a.yaml", "weights"), "fe", 'a.yaml: weights: was "ff", is "fe"'),
        (("a.yaml", "exports", "onnx", "top_k"), 3.0, "a.yaml: exports/onnx/top_k: was 3, is 3.0"),
        (("a.yaml", "losses"), [0.5], "a.yaml: losses/1: was 0.25, is nothing"),
        (("b.yaml", "predictions", "y.npy"), "", 'b.yaml: predictions/y.npy: was nothing, is ""'),
    ],
)
def test_a_line_says_which_value_was_what(path, value, line):
    after = copy.deepcopy(RESULTS)
    inner = after
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert lines(RESULTS, after) == [line]


def test_a_case_that_is_gone_differs_unless_only_some_were_run():
    part = {"b.yaml": RESULTS["b.yaml"]}
    assert lines(RESULTS, part) == ["a.yaml: no such case in the new results"]
    assert lines(RESULTS, part, is_part=True) == []
    assert lines(part, RESULTS, is_part=True) == ["a.yaml: no such case in the old results"]


def test_what_out_wrote_compares_as_the_same_and_a_change_exits_with_1(made, work_dir, capsys):
    assert same_results.main(["--out=before.json"]) == 0
    assert json.loads(Path("before.json").read_text(encoding="utf-8"))["results"]["b.yaml"].pop("inputs")
    assert same_results.main(["--compare=before.json"]) == 0
    assert capsys.readouterr().out == "0 differences in 2 cases\n"
    made["b.yaml"]["predictions"]["x.npy"] = "3:0.6"
    assert same_results.main(["--compare=before.json", "--out=after.json"]) == 1
    said = 'b.yaml: predictions/x.npy: was "3:0.5", is "3:0.6"\n1 differences in 2 cases\n'
    assert capsys.readouterr().out == said
    assert same_results.main(["--compare=after.json"]) == 0


def test_a_file_of_another_machine_is_refused_with_one_line_before_work(made, work_dir, capsys, monkeypatch):
    assert same_results.main(["--out=before.json"]) == 0
    content = json.loads(Path("before.json").read_text(encoding="utf-8"))
    content["machine"]["numpy"] = "1.0"
    Path("before.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr(same_results, "run_cases", lambda *_, **__: pytest.fail("it went to work"))
    capsys.readouterr()
    assert same_results.main(["--compare=before.json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("same_results: before.json: made with numpy 1.0, but this machine has ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "nothing to do; give --out or --compare"),
        (["--out=none/a.json"], "--out none/a.json: no folder none; make it first"),
        (["--out=a.json", "--work_dir=."], "--work_dir .: already exists; name a new folder"),
    ],
)
def test_mistakes_of_the_command_line_are_found_before_work(work_dir, capsys, words, text):
    with pytest.raises(SystemExit, match="2"):
        same_results.main(words)
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", '{"results": {}}', '{"machine": 3, "results": {}}'])
def test_a_file_of_something_else_is_refused(work_dir, capsys, text):
    Path("other.json").write_text(text, encoding="utf-8")
    assert same_results.main(["--compare=other.json"]) == 2
    assert "other.json: not written by --out; write it anew" in capsys.readouterr().err
    assert same_results.main(["--compare=none.json"]) == 2
    assert "none.json: cannot read (No such file or directory)" in capsys.readouterr().err


def test_a_command_that_fails_is_named_and_never_counts_as_the_same(work_dir, capsys, monkeypatch):
    def case(work):
        user_commands.run(work, "predict.py", "--weights=none")

    monkeypatch.setattr(same_results, "all_cases", lambda *, quick: {"c": case})
    assert same_results.main(["--out=before.json"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("c: predict.py --weights=none: exit code 2: ")
    assert out.count("\n") == 1
    assert same_results.main(["--compare=before.json"]) == 1
    assert capsys.readouterr().out == f"{out}1 differences in 1 cases\n"


def test_every_shipped_yaml_is_a_case_and_every_network_is_exported_once():
    found = same_cases.all_cases()
    shipped = {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert shipped < found.keys()
    exported = [found[name].keywords["model"] for name in sorted(shipped) if found[name].keywords["backends"]]
    networks = [(model["name"], model.get("variant"), model.get("backbone")) for model in exported]
    assert len(networks) == len(set(networks))
    assert {name for name, _, _ in networks} == {found[n].keywords["model"]["name"] for n in shipped}
    assert same_cases.all_cases(quick=True).keys() < found.keys()


def test_records_are_the_same_in_tfrecords_pickles_and_npz(tmp_path):
    tiny_inputs.write_inputs(tmp_path)
    for part in range(2):
        records = list(read_yt8m(tmp_path / f"tfrecord/val{part}.tfrecord"))
        pickled = read_yt8m_pickle(tmp_path / f"pickle/val{part}.pickle")
        assert [r.video_id for r in records] == [f"val{part}", f"val{part + 2}"]
        for one, other in zip(records, pickled, strict=True):
            assert (one.video_id, list(one.labels)) == (other.video_id, list(other.labels))
            npz = np.load(tmp_path / f"npz/{one.video_id}.npz", allow_pickle=False)
            for name, x in one.features.items():
                assert np.array_equal(x, other.features[name])
                assert np.array_equal(npz[name], x / np.float32(64) - 2)
