from __future__ import annotations

import hashlib
import itertools
import math
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clew.datasets import content_digest
from clew.datasets.casts import INSTANT
from tests.datasets.tables import coded, rechunked, tables

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TYPE_NAMES = {
    pa.bool_(): "bool",
    pa.int64(): "int64",
    pa.float64(): "float64",
    pa.string(): "text",
    pa.date32(): "date",
    INSTANT: "instant",
}


@given(table=tables(), sizes=st.lists(st.integers(0, 9), max_size=6))
@settings(max_examples=50)
def test_chunks_slices_and_dictionaries_do_not_change_the_digest(table: pa.Table, sizes: list[int]) -> None:
    digest = content_digest(table)
    assert content_digest(rechunked(table, sizes)) == digest
    assert content_digest(coded(table)) == digest
    assert content_digest(coded(rechunked(table, sizes))) == digest
    assert content_digest(table.replace_schema_metadata({"made by": "somebody"})) == digest


@given(table=tables(), data=st.data())
@settings(max_examples=50)
def test_any_changed_value_changes_the_digest(table: pa.Table, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, table.num_columns - 1))
    row = data.draw(st.integers(0, table.num_rows - 1))
    column = table.column(position)
    values = column.to_pylist()
    others = [value for value in [None, *values] if value != values[row]]
    assume(others)
    values[row] = data.draw(st.sampled_from(others))
    changed = table.set_column(position, table.column_names[position], pa.array(values, column.type))
    assert content_digest(changed) != content_digest(table)


@given(table=tables(max_rows=5))
@settings(max_examples=50)
def test_order_names_and_columns_are_part_of_it(table: pa.Table) -> None:
    digest = content_digest(table)
    renamed = table.rename_columns([*table.column_names[:-1], "other"])
    swapped = table.select(table.column_names[::-1])
    shorter = table.slice(1)
    assert len({digest, *map(content_digest, (renamed, swapped, shorter))}) == 4
    if table.num_rows > 1:
        assert content_digest(table.take(pa.array(range(table.num_rows))[::-1])) != digest


def test_text_is_the_same_however_arrow_lays_it_out() -> None:
    words = ["a", None, "", "ümlaut"]
    digests = {
        content_digest(pa.table({"x": pa.array(words, kind)}))
        for kind in (pa.string(), pa.large_string(), pa.string_view())
    }
    assert len(digests) == 1


def test_neighbouring_words_cannot_pass_for_each_other() -> None:
    assert content_digest(pa.table({"x": ["ab", "c"]})) != content_digest(pa.table({"x": ["a", "bc"]}))
    assert content_digest(pa.table({"x": ["", None]})) != content_digest(pa.table({"x": [None, ""]}))


def test_what_lies_under_a_null_does_not_count() -> None:
    mask = np.array([False, True, False])
    one = pa.array(np.array([1, 2, 3]), mask=mask)
    other = pa.array(np.array([1, 99, 3]), mask=mask)
    assert content_digest(pa.table({"x": one})) == content_digest(pa.table({"x": other}))
    validity, offsets = pa.py_buffer(b"\x05"), pa.py_buffer(struct.pack("<4i", 0, 1, 2, 3))
    words = [
        pa.StringArray.from_buffers(3, offsets, pa.py_buffer(content), validity)
        for content in (b"abc", b"aXc")
    ]
    assert [word.to_pylist() for word in words] == [["a", None, "c"]] * 2
    assert content_digest(pa.table({"x": words[0]})) == content_digest(pa.table({"x": words[1]}))


def test_every_nan_is_the_same_and_null_is_another_thing() -> None:
    quiet, other = math.nan, struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000123))[0]
    digests = [
        content_digest(pa.table({"x": pa.array(values, pa.float64(), from_pandas=False)}))
        for values in ([quiet, 1.0], [other, 1.0], [None, 1.0])
    ]
    assert digests[0] == digests[1] != digests[2]


def test_minus_zero_is_not_zero() -> None:
    assert content_digest(pa.table({"x": [0.0]})) != content_digest(pa.table({"x": [-0.0]}))


def test_an_instant_is_the_same_in_every_zone_and_unit() -> None:
    instants = pa.array([0, 1_700_000_000_000_000, None], INSTANT)
    berlin = instants.cast(pa.timestamp("ns", "Europe/Berlin"))
    assert content_digest(pa.table({"t": instants})) == content_digest(pa.table({"t": berlin}))


def framed(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def described_digest(columns: dict[str, tuple[str, list[Any]]]) -> str:
    """The digest as its description has it, from Python's values, one at a time."""
    encode: dict[str, Callable[[Any], bytes]] = {
        "bool": lambda value: struct.pack("<B", value or False),
        "int64": lambda value: struct.pack("<q", value or 0),
        "float64": lambda value: struct.pack("<d", 0.0 if value is None else value),
        "text": lambda value: (value or "").encode(),
        "date": lambda value: struct.pack("<i", (value - date(1970, 1, 1)).days if value else 0),
        "instant": lambda value: struct.pack(
            "<q", (value - EPOCH) // timedelta(microseconds=1) if value else 0
        ),
    }
    n_rows = len(next(iter(columns.values()))[1])
    said = b"clew rows 0" + struct.pack("<QQ", n_rows, len(columns))
    for name, (kind, values) in columns.items():
        stored = [encode[kind](value) for value in values]
        n_nulls = values.count(None)
        validity = bytes(value is not None for value in values) if n_nulls else b""
        lengths = b"".join(struct.pack("<q", len(item)) for item in stored) if kind == "text" else b""
        column = framed(kind.encode()) + struct.pack("<Q", n_nulls)
        for part in (validity, lengths, b"".join(stored)):
            column += hashlib.sha256(part).digest()
        said += framed(name.encode()) + hashlib.sha256(column).digest()
    return hashlib.sha256(said).hexdigest()


@given(table=tables())
@settings(max_examples=50)
def test_the_digest_is_what_its_description_says(table: pa.Table) -> None:
    kinds = [TYPE_NAMES[column.type] for column in table.columns]
    values = [column.to_pylist() for column in table.columns]
    described = dict(zip(table.column_names, zip(kinds, values, strict=True), strict=True))
    assert content_digest(table) == described_digest(described)


def test_the_digest_never_changes_between_releases() -> None:
    table = pa.table(
        {
            "flag": pa.array([True, None, False]),
            "n": pa.array([1, None, -(2**63)], pa.int64()),
            "x": pa.array([0.1, None, -0.0], pa.float64()),
            "word": pa.array(["ü", None, ""]),
            "day": pa.array([0, None, 20_000], pa.date32()),
            "at": pa.array([0, None, 1_700_000_000_123_456], INSTANT),
        }
    )
    assert content_digest(table) == "3d8d329870d020c71dc01d263f58af47e0f6f43fd9eea421ab90b874ee4ae97a"


NESTED: dict[str, tuple[pa.DataType, list[Any]]] = {
    "numbers in lists": (pa.list_(pa.int64()), [[1, 2], None, [], [None, 3]]),
    "words in lists in lists": (pa.list_(pa.list_(pa.string())), [[["a"], []], None, [None], [["b", None]]]),
    "structs": (pa.struct([("x", pa.int64()), ("y", pa.string())]), [{"x": 1, "y": "a"}, None, {"x": 2}, {}]),
    "structs in lists": (
        pa.list_(pa.struct([("x", pa.date32())])),
        [[{"x": date(2026, 1, 1)}], [], None, [None]],
    ),
    "money": (pa.decimal128(9, 2), [Decimal("1.10"), None, Decimal("-7.00"), Decimal("0.01")]),
    "bytes": (pa.binary(), [b"\0", None, b"", b"\xff\xfe"]),
    "times of day": (pa.time64("us"), [time(1), None, time(0), time(23, 59, 59, 999_999)]),
    "spans": (pa.duration("us"), [timedelta(1), None, timedelta(0), timedelta(-1)]),
    "times without a zone": (pa.timestamp("us"), [datetime(2026, 1, 1), None, datetime(1969, 1, 1), None]),  # noqa: DTZ001
    "nothing": (pa.null(), [None] * 4),
}
PINNED = {
    "numbers in lists": "ce4c91f241f2e8916ebb5fcf870023eb45bdbaf0c2484cca5524255aeccd554d",
    "words in lists in lists": "c0457a3243e71af9f0c09bd834c9e1a98e4587acaec3583a7fa345a9e3c1ae63",
    "structs": "7fa89b5b199e19b9f190d12ae5825707b295bd84850832eab44baf8907e5fc57",
    "structs in lists": "28c7e540848a57642f162e279f5f4028fcef07216b7c5b4f4d92633e634e1d3d",
    "money": "a3ba4054117a74671976907a60551381890ade9218f810730867787606ed1e45",
    "bytes": "54a08b2ca3a5ab56a8c596c1d57f6103a32ddf5377415bea97206f7baa9f8656",
    "times of day": "58407dfd1c3bfcabb99fdd6fce2231a8e5557e35ff3af4a43b66b82112bc245c",
    "spans": "b585f516128506824a64a4351ff5c00e6c23c97f17679c218c242cefdf07eb97",
    "times without a zone": "9673ead9d7871656912f94453a8eab5807f04cff482c0a77f93810d9a98d9cf0",
    "nothing": "e7be515fae71011fcd7f6f74049954f6d47ad84948e2bca878d806ae75c8bbdb",
}


@pytest.mark.parametrize("name", NESTED)
def test_a_column_of_any_type_has_one_digest_however_it_is_laid_out(name: str) -> None:
    kind, values = NESTED[name]
    table = pa.table({"x": pa.array(values, kind)})
    digest = content_digest(table)
    for sizes in ([1, 1], [0, 3], [2]):
        assert content_digest(rechunked(table, sizes)) == digest
    assert digest == PINNED[name]


@pytest.mark.parametrize("name", [name for name in NESTED if name != "nothing"])
def test_any_changed_value_of_any_type_changes_the_digest(name: str) -> None:
    kind, values = NESTED[name]
    digests = {content_digest(pa.table({"x": pa.array(values, kind)}))}
    for row, other in itertools.product(range(4), values):
        changed = [*values[:row], other, *values[row + 1 :]]
        same = pa.array(changed, kind).equals(pa.array(values, kind))
        assert (content_digest(pa.table({"x": pa.array(changed, kind)})) in digests) == same


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("numbers in lists", pa.large_list(pa.int64())),
        ("words in lists in lists", pa.large_list(pa.list_(pa.large_string()))),
        ("money", pa.decimal256(9, 2)),
        ("bytes", pa.large_binary()),
        ("times of day", pa.time64("ns")),
    ],
)
def test_types_that_say_the_same_have_the_same_digest(name: str, other: pa.DataType) -> None:
    kind, values = NESTED[name]
    one, same = (content_digest(pa.table({"x": pa.array(values, each)})) for each in (kind, other))
    assert one == same


def test_what_lies_under_a_null_list_or_struct_does_not_count() -> None:
    mask = pa.array([False, True, False])
    lists = [
        pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), pa.array([1, hidden, 3]), mask=mask)
        for hidden in (2, 99)
    ]
    structs = [pa.StructArray.from_arrays([pa.array([1, hidden, 3])], ["a"], mask=mask) for hidden in (2, 99)]
    for one, other in (lists, structs):
        assert content_digest(pa.table({"x": one})) == content_digest(pa.table({"x": other}))


def test_items_cannot_pass_for_those_of_the_next_list_and_fields_have_names() -> None:
    assert content_digest(pa.table({"x": [[1, 2], [3]]})) != content_digest(pa.table({"x": [[1], [2, 3]]}))
    assert content_digest(pa.table({"x": [{"a": 1}]})) != content_digest(pa.table({"x": [{"b": 1}]}))


def test_a_type_without_a_digest_is_refused() -> None:
    with pytest.raises(TypeError, match="map<string, int64"):
        content_digest(pa.table({"x": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))}))
