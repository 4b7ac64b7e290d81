import inspect

import pytest

from videotag import errors
from videotag.errors import (
    FileListError,
    ShapeError,
    VideotagError,
    error_text,
    grouped,
    one_error,
    problems_of,
)

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value)]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_a_videotag_error_and_is_drawn_in_the_tree(error):
    assert issubclass(error, VideotagError)
    assert error.__name__ in errors.__doc__
    assert error.retriable is (error in (errors.DecoderLostError, errors.BusyError))


def test_shape_error_is_a_value_error_too():
    assert issubclass(ShapeError, ValueError)


def test_exit_codes_are_those_of_the_contract():
    codes = (errors.EXIT_OK, errors.EXIT_FAILURES, errors.EXIT_USAGE, errors.EXIT_INTERRUPTED)
    assert codes == (0, 1, 2, 130)


def test_one_error_lists_a_line_per_problem():
    error = one_error(FileListError, ["a", "b"])
    assert type(error) is FileListError
    assert str(error) == "a\nb"


def test_one_error_shows_fifty_problems_and_counts_the_rest():
    problems = [str(number) for number in range(50)]
    assert str(one_error(FileListError, problems)).splitlines() == problems
    assert str(one_error(FileListError, [*problems, "x", "y"])).splitlines() == [
        *problems,
        "... and 2 more problems",
    ]
    assert len(problems) == 50  # the caller's list is not changed


def test_one_text_of_many_places_is_one_line_in_the_place_of_the_first():
    problems = [("a", "x"), ("b", "y"), ("c", "x"), ("d", "x")]
    assert grouped(problems, at_most=2) == ["a and 2 more: x", "b: y"]
    assert grouped(problems, at_most=3) == ["a: x", "b: y", "c: x", "d: x"]
    assert grouped([]) == []


def test_a_line_break_in_a_quoted_value_adds_no_line():
    fake = "a\x1b[2J\nvideotag: all is well"
    shown = r"a\x1b[2J\nvideotag: all is well"
    assert error_text(FileListError(fake)) == shown
    assert error_text(one_error(FileListError, [fake, "b"])) == f"{shown}\nb"
    assert problems_of(one_error(FileListError, [fake, "b"])) == [shown, "b"]
    assert error_text(OSError(fake)) == shown


def test_a_long_problem_is_truncated():
    assert len(error_text(FileListError("x" * 10**6))) == 2000
    assert len(str(one_error(FileListError, ["x" * 10**6]))) == 2000
