from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videotag.errors import FileListError
from videotag.formats.filelist import ListEntry, read_filelist, write_filelist
from videotag.formats.record_files import is_record_file


def written(tmp_path, content, **options):
    """The (path, label_ids, line) of every entry of a list with this content."""
    path = tmp_path / "a.list"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    entries = read_filelist(path, **{"must_exist": False, **options})
    return [(entry.path, entry.label_ids, entry.line) for entry in entries]


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("a.npy", ("a.npy", ())),
        ("a.npy 1 2", ("a.npy", (1, 2))),
        ("  a.npy\t 1  \t2  ", ("a.npy", (1, 2))),
        ('"my clip.mp4" 3', ("my clip.mp4", (3,))),
        ("'my clip.mp4'", ("my clip.mp4", ())),
        ('"a ""b"" c.mp4" 0', ('a "b" c.mp4', (0,))),
        ("it's.mp4 4", ("it's.mp4", (4,))),
        (r'"C:\my clips\new.mp4" 5', (r"C:\my clips\new.mp4", (5,))),
        ("take#2.mp4 6", ("take#2.mp4", (6,))),
        ('"#1.mp4" 7', ("#1.mp4", (7,))),
        ("视频　一.mp4 8", ("视频　一.mp4", (8,))),
        ("a.npy 007", ("a.npy", (7,))),
        ("a,b.mp4 3", ("a,b.mp4", (3,))),
        ("a,b;c.mp4", ("a,b;c.mp4", ())),
        ("1,2.mp4 3", ("1,2.mp4", (3,))),
        ("clips,2019/a.mp4 3", ("clips,2019/a.mp4", (3,))),
        ("take,3 4", ("take,3", (4,))),
        ('"a.mp4,1" 2', ("a.mp4,1", (2,))),
        (r"C:\a.mp4 1", (r"C:\a.mp4", (1,))),
    ],
)
def test_line_is_read(tmp_path, line, entry):
    assert written(tmp_path, line) == [(*entry, 1)]


def test_comments_blank_lines_crlf_and_bom_are_skipped_and_lines_counted(tmp_path):
    content = b"\xef\xbb\xbfa.npy 1\r\n\r\n# a comment\r\n  # another\r\nb.npy 2\r\n"
    assert written(tmp_path, content) == [("a.npy", (1,), 1), ("b.npy", (2,), 5)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "my clip.mp4 1",
            r"label 'clip.mp4' is not an integer; a path with blanks must be quoted, such as \"my",
        ),
        ("a.mp4 1 # cat", r"label '#' is not an integer; write comments on their own line"),
        ("a.mp4 1.5", "label '1.5' is not an integer; write a whole number"),
        ("a.mp4 1.0", "label '1.0' is not an integer; write 1$"),
        ("a.mp4 3 12.", "label '12.' is not an integer; write 12$"),
        ("a.mp4,1,2", "'a.mp4,1,2': no such file or folder; separate path and numbers by blanks, not commas"),
        ("a.mp4;3", "'a.mp4;3': no such file or folder; separate path and numbers by blanks, not semicolons"),
        ("a.npy|3", "'a.npy|3': no such file .* not vertical bars"),
        ("a.npz:3", "'a.npz:3': no such file .* not colons"),
        ("a.MP4，3", "'a.MP4，3': no such file .* not full-width commas"),
        ("a.mp4\u30003", r"'a\.mp4\\u30003': no such file .* by blanks, not ideographic spaces \(U\+3000\)"),
        ("a.mp4\xa03", r"'a\.mp4\\xa03': no such file .* by blanks, not no-break spaces \(U\+00A0\)"),
        ("a.mp4；3", "'a.mp4；3': no such file .* not full-width semicolons"),
        ("a.mp4, 1", "'a.mp4,': no such file .* not commas"),
        ("a.mp4,1 2", "'a.mp4,1': no such file .* not commas"),
        ("a.mp4,1.0", "'a.mp4,1.0': no such file .* not commas"),
        ("a,b.mp4,3", "'a,b.mp4,3': no such file .* not commas"),
        ("a.264,1", "'a.264,1': no such file .* not commas"),
        ("r.tfrecord,1", "'r.tfrecord,1': no such file .* not commas"),
        ("a.mp4 1,2", "label '1,2' is not an integer; separate by blanks, not commas"),
        ("a.mp4 1, 2", "label '1,' is not an integer; separate by blanks, not commas"),
        ("a.mp4 , 1", "label ',' is not an integer; separate by blanks, not commas"),
        ('a.mp4 "1"', "label '\"1\"' is not an integer; write it without quotes or brackets$"),
        ('a.mp4 "1,2"', "label '\"1,2\"' is not an integer; separate by blanks, not commas"),
        ("a.mp4 [1, 2]", r"label '\[1,' is not an integer; separate by blanks, not commas"),
        ("a.mp4 [1]", r"label '\[1\]' is not an integer; write it without quotes or brackets"),
        ("a.mp4 1;2", "label '1;2' is not an integer; separate by blanks, not semicolons"),
        ("my cat,dog.mp4 1", r"label 'cat,dog.mp4' is not an integer; a path with blanks must be quoted"),
        ("cat, dog.mp4 1", r"label 'dog.mp4' is not an integer; a path with blanks must be quoted"),
        ('"a.mp4",1', "',1' follows the closing quote; separate by blanks, not commas"),
        ("a.mp4 1_0", "label '1_0' is not an integer"),
        ("a.mp4 ٣", "label '٣' is not an integer"),
        (
            "a.mp4 " + "9" * 20,
            "label '9{20}' is too large; class ids count from 0 and have at most 18 digits$",
        ),
        ("a.mp4 1 -" + "9" * 5000, "label '-9{39}' is too large"),
        ("a.mp4 -1", "label -1 is negative; class ids count from 0"),
        ("a.mp4 10", "label 10, expected below num_classes 10; class ids count from 0"),
        ("a.mp4 2 3 2", "label 2 appears twice; remove one"),
        ('"a.mp4 1', 'the quote " is not closed; put " after the path'),
        ('"a b".mp4 1', "'.mp4 1' follows the closing quote; put a blank between them"),
        ('"" 1', "the path is empty; write it between the quotes"),
        ("a\0.mp4 1", "the path contains a NUL character; is this a text file?"),
    ],
)
def test_bad_line_is_named_with_its_remedy(tmp_path, line, message):
    with pytest.raises(FileListError, match=rf"a\.list:2: {message}"):
        written(tmp_path, f"good.mp4 1\n{line}\n", num_classes=10)


def test_all_bad_lines_are_reported_together(tmp_path):
    with pytest.raises(FileListError) as caught:
        written(tmp_path, "a.mp4 -1\nb.mp4\nc.mp4 5\nd.mp4 9 9\n", labels="required", num_classes=8)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0].rsplit(":", 1)[1] for line in lines] == ["1", "2", "4", "4"]
    assert lines[1].endswith("a.list:2: no label; write the class ids after the path")


def test_reading_stops_after_many_bad_lines_and_says_so_first(tmp_path):
    with pytest.raises(FileListError) as caught:
        written(tmp_path, "a.mp4 -1\n" * 5000)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("a.list:1001: stopped after 1000 bad lines; is this a list file?")
    assert lines[1:] == [f"{tmp_path}/a.list:1 and 999 more: label -1 is negative; class ids count from 0"]


def test_many_missing_files_are_one_line_and_a_few_have_a_line_each(tmp_path):
    for count in (5, 300):
        with pytest.raises(FileListError) as caught:
            written(tmp_path, "".join(f"gone{n}.mp4 1\n" for n in range(count)), must_exist=True)
        lines = str(caught.value).splitlines()
        if count == 5:
            assert [line.split(": ")[1] for line in lines] == [f"gone{n}.mp4" for n in range(5)]
    assert len(lines) == 1
    assert "a.list:1: gone0.mp4 and 299 more: no such file or folder; relative paths start at" in lines[0]


@pytest.mark.parametrize("name", ["list_comma.list", "list_comma_labels.list"])
@pytest.mark.parametrize("must_exist", [False, True])
def test_lists_with_commas_are_refused_line_by_line(work_dir, name, must_exist):
    for number in (0, 1):
        Path(f"ok{number}.npy").touch()
    with pytest.raises(FileListError) as caught:
        read_filelist(Path(__file__).parent / "cases" / name, must_exist=must_exist)
    lines = str(caught.value).splitlines()
    assert len(lines) == (2 if name == "list_comma.list" else 1)
    assert all(line.endswith("by blanks, not commas") for line in lines)


@pytest.mark.parametrize("must_exist", [False, True])
def test_a_path_that_ends_like_class_ids_is_one_where_it_is_there(work_dir, must_exist):
    for name in ("a.mp4", "a.mp4,1", "take;2"):
        Path(name).touch()
    content = "a.mp4,1 2\ntake;2\n"
    entries = written(work_dir, content, must_exist=must_exist)
    assert entries == [("a.mp4,1", (2,), 1), ("take;2", (), 2)]


def test_what_stands_before_a_comma_is_a_path_if_it_is_there(work_dir):
    Path("frames").mkdir()
    with pytest.raises(FileListError, match=r"a\.list:1: 'frames,3': no such file .* not commas"):
        written(work_dir, "frames,3\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "frames,10,1",
            "'frames,10,1': no such file or folder; separate path and numbers by blanks, not com",
        ),
        (
            "frames 10,1",
            "'10,1' is not a valid num_frames, expected a number from 1; separate by blanks, not commas",
        ),
        ("frames 10.0 1", "'10.0' is not a valid num_frames, expected a number from 1; write 10"),
        (
            "frames x 1",
            "'x' is not a valid num_frames, expected a number from 1; write: path num_frames label",
        ),
        (
            "frames",
            "nothing is not a valid num_frames, expected a number from 1; write: path num_frames label",
        ),
    ],
)
def test_a_folder_of_frames_is_separated_by_blanks_too(tmp_path, line, message):
    with pytest.raises(FileListError, match=rf"a\.list:1: {message}"):
        written(tmp_path, line, count_names=("num_frames",))


def test_a_long_line_of_separators_is_read_in_linear_time(tmp_path):
    """A quadratic search would take hours here."""
    for line in ("," * 10**6 + "x", "1," * 10**6 + "x", "x" + "1," * 10**6):
        assert written(tmp_path, line) == [(line, (), 1)]


@pytest.mark.parametrize("numbers", [(), ("num_frames",)])
def test_an_unquoted_path_with_blanks_is_one_problem(tmp_path, numbers):
    with pytest.raises(FileListError) as caught:
        written(tmp_path, "my best holiday clip.mp4 3 1\n", must_exist=True, count_names=numbers)
    assert len(str(caught.value).splitlines()) == 1
    assert "'best' is not" in str(caught.value)


def test_missing_file_is_a_problem_unless_allowed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.mp4").touch()
    (tmp_path / "frames").mkdir()
    with pytest.raises(
        FileListError, match=r"a\.list:2: gone\.mp4: no such file or folder; relative paths start at"
    ):
        written(tmp_path, "there.mp4\ngone.mp4\nframes\n", must_exist=True)
    assert len(written(tmp_path, "there.mp4\nframes\n", must_exist=True)) == 2


@pytest.mark.parametrize("content", ["", "\n\n", "# only a comment\n"])
def test_empty_list_is_an_error(tmp_path, content):
    with pytest.raises(FileListError, match=r"a\.list: no entries; write one video or feature file per line"):
        written(tmp_path, content)


def test_missing_list_says_what_to_write(tmp_path):
    with pytest.raises(
        FileListError, match=r"no\.list: no such file; write one video .* such as: clips/a.mp4 12 305"
    ):
        read_filelist(tmp_path / "no.list")


def test_folder_instead_of_list_is_an_error(tmp_path):
    with pytest.raises(FileListError, match="cannot read"):
        read_filelist(tmp_path)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("a.mp4 1\n视频.mp4 2\n".encode("gbk"), "GBK"),
        ("a.mp4 1\ncaf\xe9.mp4 2\n".encode("latin1"), "LATIN1"),
    ],
)
def test_other_encodings_are_named_with_the_command_that_converts(tmp_path, content, encoding):
    with pytest.raises(
        FileListError, match=rf"a\.list:2: not UTF-8, probably {encoding}; .* iconv -f {encoding} -t UTF-8"
    ):
        written(tmp_path, content)


def test_text_that_fits_two_encodings_names_both(tmp_path):
    with pytest.raises(FileListError) as caught:  # \xe9o is a rare character of GBK
        written(tmp_path, "a.mp4 1\nvid\xe9oth\xe8que.mp4 2\n".encode("latin1"))
    command = f"iconv -f {{}} -t UTF-8 {tmp_path / 'a.list'} > new"
    assert "a.list:2: not UTF-8, probably LATIN1 or GBK; convert it: " in str(caught.value)
    assert f"{command.format('LATIN1')}, or {command.format('GBK')}" in str(caught.value)


def test_a_video_in_place_of_a_list_is_named_as_one(tmp_path):
    with pytest.raises(FileListError) as caught:
        written(tmp_path, b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41\xff\xfe")
    assert "a.list: a binary file such as a video, not text; " in str(caught.value)
    assert str(caught.value).endswith("a list is text; one video is given by --video_path")


def test_utf16_is_named(tmp_path):
    with pytest.raises(FileListError, match="probably UTF-16"):
        written(tmp_path, "视频.mp4".encode("utf-16"))


PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\0"), min_size=1)
LABELS = st.lists(st.integers(0, 10**17), unique=True).map(tuple)


@given(items=st.lists(st.tuples(PATHS | st.text("\"' #\ufeff\r\t\va,1", min_size=1), LABELS), min_size=1))
def test_written_list_reads_back_as_it_was(tmp_path_factory, items):
    items = [(path, () if is_record_file(path) else labels) for path, labels in items]
    path = tmp_path_factory.getbasetemp() / "round_trip.list"
    write_filelist(path, [ListEntry(name, label_ids) for name, label_ids in items])
    entries = read_filelist(path, must_exist=False)
    assert [(entry.path, entry.label_ids) for entry in entries] == items


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "empty path"), ("a\nb", "line break"), ("a\0", "NUL"), ("a\udcff", "is not UTF-8")],
)
def test_path_that_no_line_can_hold_is_not_written(tmp_path, name, message):
    with pytest.raises(FileListError, match=message):
        write_filelist(tmp_path / "a.list", [ListEntry(name)])
    assert not list(tmp_path.iterdir())


def test_a_list_of_json_lines_with_another_suffix_is_told_its_name(tmp_path):
    path = tmp_path / "posts.list"
    path.write_text('{ "id": "a", "text": "b"}\n', encoding="utf-8")
    with pytest.raises(
        FileListError, match=r"posts\.list: looks like JSON lines; rename it to posts\.jsonl$"
    ):
        read_filelist(path)
