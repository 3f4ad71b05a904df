from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew import errors
from clew.errors import (
    AliasMoved,
    ClewError,
    DataError,
    MissingExtra,
    NotFound,
    ProjectError,
    StoreBusy,
    StoreError,
    StoreTooNew,
    TrainingFailed,
    UsageError,
    did_you_mean,
)

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ClewError)]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_a_clew_error_with_its_codes(kind: type[ClewError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, UsageError) else 1)
    assert 400 <= kind.http_status < 600
    assert kind.error_code.isupper()


@pytest.mark.parametrize("kind", ALL)
def test_the_tree_in_the_docstring_names_every_error(kind: type[ClewError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "").split()


def test_a_program_can_tell_what_is_missing_from_what_was_misused() -> None:
    assert (NotFound.http_status, NotFound.error_code) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert (UsageError.http_status, UsageError.error_code) == (400, "INVALID_PARAMETER_VALUE")
    assert (AliasMoved.http_status, StoreBusy.http_status) == (409, 503)


def test_trouble_with_a_store_can_be_caught_as_one() -> None:
    assert issubclass(StoreBusy, StoreError)
    assert issubclass(StoreTooNew, StoreError)


def test_a_moved_alias_says_where_it_is_and_where_it_was_believed() -> None:
    error = AliasMoved("busy", "champion", expected=2, found=3)
    assert (error.deployment, error.alias, error.expected, error.found) == ("busy", "champion", 2, 3)
    assert "The champion of 'busy' is version 3, not version 2 as expected" in str(error)
    assert "no version, not version 2" in str(AliasMoved("busy", "champion", expected=2, found=None))


def test_errors_carry_what_programs_need() -> None:
    data = DataError("wrong", column="age", rows=iter([3, 5]))
    assert (data.column, data.rows, str(data)) == ("age", (3, 5), "wrong")
    failed = TrainingFailed("raised", traceback="line 1", output=b"printed")
    assert (failed.traceback, failed.output) == ("line 1", b"printed")
    assert ProjectError("cannot be imported", traceback="line 2").traceback == "line 2"


def test_a_missing_extra_says_what_to_run() -> None:
    error = MissingExtra("polars", "polars", 'frame="polars"')
    assert 'pip install "clew[polars]"' in str(error)
    assert (error.package, error.extra) == ("polars", "polars")


@given(st.lists(st.text("abcdefgh_", min_size=3), min_size=1, unique=True), st.data())
def test_a_known_word_is_its_own_nearest(words: list[str], data: st.DataObject) -> None:
    word = data.draw(st.sampled_from(words))
    assert did_you_mean(word, words) == f"Did you mean {word!r}?"


def test_without_any_known_word_that_is_said() -> None:
    assert did_you_mean("busy", []) == "Known: none."
