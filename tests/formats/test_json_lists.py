"""Lists of samples as JSON lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videotag.errors import FileListError
from videotag.formats.filelist import ListEntry
from videotag.formats.json_lists import is_json_list, read_json_list

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def read(tmp_path, content, **options):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_json_list(path, **options)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.jsonl", True), ("b/A.NDJSON", True), ("a.json", False), ("a.list", False), ("jsonl", False)],
)
def test_a_list_of_json_lines_is_known_by_its_suffix(name, expected):
    assert is_json_list(name) == expected


def test_a_sample_is_an_id_fields_and_labels(tmp_path):
    line = '{"id": "a", "image": "a b.jpg", "text": "two\\nlines", "labels": [3, 0]}'
    assert read(tmp_path, line) == [
        ListEntry("a", (3, 0), 1, fields={"image": "a b.jpg", "text": "two\nlines"})
    ]


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ('{"text": "x"}', ListEntry("a.jsonl:1", (), 1, fields={"text": "x"})),
        ('{"id": null, "text": "x", "labels": null}', ListEntry("a.jsonl:1", (), 1, fields={"text": "x"})),
        ('{"id": "b", "image": null, "text": ""}', ListEntry("b", (), 1, fields={"text": ""})),
        ('{"id": "b", "labels": []}', ListEntry("b", (), 1, fields={})),
        ("{}", ListEntry("a.jsonl:1", (), 1, fields={})),
        ('  {"id": "鲸", "text": "\\u9cb8"}  ', ListEntry("鲸", (), 1, fields={"text": "鲸"})),
    ],
)
def test_all_but_the_fields_that_a_model_needs_may_be_missing(tmp_path, line, entry):
    assert read(tmp_path, line) == [entry]


def test_blank_lines_crlf_and_bom_are_skipped_and_lines_counted(tmp_path):
    found = read(tmp_path, b'\xef\xbb\xbf{"id": "a"}\r\n\r\n \n{"text": "x\xe2\x80\xa8y"}\n')
    assert [(entry.path, entry.line) for entry in found] == [("a", 1), ("a.jsonl:4", 4)]


@given(
    samples=st.lists(
        st.tuples(
            st.dictionaries(TEXT.filter(lambda key: key not in ("id", "labels")), TEXT, max_size=3),
            st.lists(st.integers(0, 9), unique=True),
        ),
        min_size=1,
    )
)
def test_any_text_and_labels_come_back(tmp_path_factory, samples):
    lines = [json.dumps({"id": str(n), **fields, "labels": ids}) for n, (fields, ids) in enumerate(samples)]
    found = read(tmp_path_factory.mktemp("lists"), "\n".join(lines), labels="optional", num_classes=10)
    assert [(entry.fields, list(entry.label_ids)) for entry in found] == samples


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.mp4 3", r'not JSON: Expecting value.*; write one object per line, such as {"id": "a"'),
        ('{"id": "a"},', r"not JSON: Extra data"),
        ('["a"]', r"\['a'\] is not an object; write one object per line"),
        ("[" * 5000 + "]" * 5000, r"not JSON: .* nested deeper than 64 levels"),
        ('{"text": {"x": 1}}', r"field 'text': {'x': 1} is not a text or a list of texts; quote it"),
        ('{"text": ["x", 1]}', r"field 'text': \['x', 1\] is not a text or a list of texts; quote it"),
        ('{"text": NaN}', r"field 'text': nan is not a text or a list of texts; quote it"),
        ('{"text": "a", "text": "b"}', r"not JSON: the key 'text' appears twice; write one object"),
        ('{"text": 3}', r"field 'text': 3 is not a text or a list of texts; quote it"),
        ('{"id": 3}', r"id: 3 is not a non-empty text; quote it, or leave it out"),
        ('{"id": ""}', r"id: '' is not a non-empty text; quote it, or leave it out"),
        ('{"id": "a\\u0000"}', r"'id' contains a character that text cannot hold; remove it"),
        ('{"text": "\\ud800"}', r"'text' contains a character that text cannot hold; remove it"),
        ('{"\\ud800": "x"}', r"'\\ud800' contains a character that text cannot hold; remove it"),
        ('{"labels": 3}', r"labels: 3 is not a list of class ids; write one such as \[0, 3\]"),
        ('{"labels": ["cat"]}', r"labels: \['cat'\] is not a list of class ids"),
        ('{"labels": [true]}', r"labels: \[True\] is not a list of class ids"),
        ('{"labels": [1.0]}', r"labels: \[1.0\] is not a list of class ids"),
        ('{"labels": [-1]}', r"label -1, expected 0 to 4; correct the label, or MODEL.num_classes"),
        ('{"labels": [5]}', r"label 5, expected 0 to 4; correct the label, or MODEL.num_classes"),
        ('{"labels": [2, 2]}', r"a label appears twice; remove one"),
        (
            '{"text": "%s"}' % ("x" * 2**20),
            r"1048588 characters, expected at most 1048576; put long",
        ),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_remedy(tmp_path, line, message):
    with pytest.raises(FileListError, match=r"a\.jsonl:2: " + message) as caught:
        read(tmp_path, f'{{"id": "first"}}\n{line}', num_classes=5)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_an_id_that_is_there_twice_names_both_lines(tmp_path):
    with pytest.raises(FileListError, match=r"jsonl:3: id 'a' repeats that of line 1; change one of them"):
        read(tmp_path, '{"id": "a", "text": "x"}\n{"text": "x"}\n{"id": "a", "text": "y"}')


def test_all_bad_lines_are_reported_together_as_far_as_they_are_shown(tmp_path):
    with pytest.raises(FileListError) as caught:
        read(tmp_path, '{"id": 1}\n{"id": "b"}\n{"labels": 2}')
    assert [text.split(" ")[0][-3:] for text in str(caught.value).split("\n")] == [":1:", ":3:"]
    with pytest.raises(FileListError, match=r"\.\.\. and 950 more problems$"):
        read(tmp_path, "x\n" * 100_000)


def test_labels_are_required_where_something_is_learned(tmp_path):
    with pytest.raises(FileListError) as caught:
        read(tmp_path, '{"id": "a"}\n{"id": "b", "labels": []}\n{"labels": [1]}', labels="required")
    assert str(caught.value).count("no label; write the class ids under 'labels'") == 2


def test_without_a_number_of_classes_any_label_is_taken_up_to_a_bound(tmp_path):
    assert read(tmp_path, '{"labels": [999999999]}')[0].label_ids == (999_999_999,)
    with pytest.raises(FileListError, match=r"label 9{39}, expected 0 to 9{18}"):
        read(tmp_path, '{"labels": [%s]}' % ("9" * 39))


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_list_without_samples_is_an_error(tmp_path, content):
    with pytest.raises(FileListError, match=r"a\.jsonl: no samples; write one object per line"):
        read(tmp_path, content)


def test_a_list_that_is_missing_or_not_utf8_is_an_error(tmp_path):
    with pytest.raises(FileListError, match=r"gone\.jsonl: no such file; write one object per line"):
        read_json_list(tmp_path / "gone.jsonl")
    with pytest.raises(FileListError, match=r"a\.jsonl:1: not UTF-8.*iconv"):
        read(tmp_path, '{"id": "é"}'.encode("latin-1"))
