from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from clew.datasets.casts import INSTANT
from clew.datasets.cutting import LONGEST, cuts_for, part_sizes, parts_that_stay
from clew.datasets.hashes import key_hashes
from clew.entities import Cuts, Part
from tests.datasets.tables import rechunked

ODD = 0x9E3779B97F4A7C15
WORD = 2**64


def mixed(number: int) -> int:
    """SplitMix64, one number at a time."""
    number = (number + ODD) % WORD
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % WORD
    number = (number ^ number >> 27) * 0x94D049BB133111EB % WORD
    return number ^ number >> 31


def text_hash(text: str) -> int:
    content = text.encode()
    hashed = mixed(len(content))
    for start in range(0, len(content), 8):
        hashed = mixed(hashed ^ int.from_bytes(content[start : start + 8], "little"))
    return hashed


def hashes_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(n).astype(np.uint64)


def cut_plainly(hashes: list[int], reach: int) -> list[int]:
    """The rule as its description has it, one row at a time."""
    starts = [0]
    for row in range(1, len(hashes)):
        left, right = hashes[max(row - reach, 0) : row], hashes[row + 1 : row + 1 + reach]
        is_peak = len(right) == reach and row - starts[-1] > reach and hashes[row] > max(left + right)
        if is_peak or row - starts[-1] == LONGEST * reach:
            starts.append(row)
    return [after - start for start, after in zip(starts, [*starts[1:], len(hashes)], strict=True)]


# -- hashes --------------------------------------------------------------------------------------------


@given(words=st.lists(st.text(max_size=40), max_size=12), sizes=st.lists(st.integers(0, 5), max_size=4))
def test_the_hash_of_text_is_what_its_description_says(words: list[str], sizes: list[int]) -> None:
    words = [word for word in words if not any("\ud800" <= letter <= "\udfff" for letter in word)]
    table = pa.table({"x": pa.array(words, pa.string())})
    table = rechunked(table, sizes) if words else table
    assert key_hashes(table["x"]).tolist() == [text_hash(word) for word in words]


@given(numbers=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=12))
def test_the_hash_of_a_number_is_what_its_description_says(numbers: list[int]) -> None:
    hashes = key_hashes(pa.chunked_array([pa.array(numbers, pa.int64())]))
    assert hashes.tolist() == [mixed(number % WORD) for number in numbers]


def test_the_hashes_never_change_between_releases() -> None:
    def hashed(values: list[object], kind: pa.DataType) -> list[int]:
        return [int(each) for each in key_hashes(pa.chunked_array([pa.array(values, kind)]))]

    numbers = [16294208416658607535, 10451216379200822465, 16490336266968443936]
    for kind in (pa.int64(), pa.date32(), INSTANT):
        assert hashed([0, 1, -1], kind) == numbers
    words = [16294208416658607535, 1655215628597299463, 171828676795300162]
    assert hashed(["", "A7", "ü-0123456789"], pa.string()) == words


# -- cuts ----------------------------------------------------------------------------------------------


@given(
    hashes=st.lists(st.integers(0, 30), max_size=120) | st.lists(st.integers(0, 2**40), max_size=120),
    reach=st.integers(1, 5),
)
def test_the_cuts_are_what_their_description_says(hashes: list[int], reach: int) -> None:
    sizes = part_sizes(np.array(hashes, np.uint64), reach)
    assert sizes == [size for size in cut_plainly(hashes, reach) if size]
    assert sum(sizes) == len(hashes)
    assert all(reach < size <= LONGEST * reach for size in sizes[:-1])


@given(seed=st.integers(0, 999), n=st.integers(1, 300), data=st.data(), reach=st.integers(1, 6))
def test_rows_that_follow_leave_the_parts_that_stay(
    seed: int, n: int, data: st.DataObject, reach: int
) -> None:
    hashes = hashes_of(n, seed) // np.uint64(data.draw(st.sampled_from([1, 7, 300])))
    n_before = data.draw(st.integers(0, n))
    parts = [Part(str(place), "", size) for place, size in enumerate(part_sizes(hashes[:n_before], reach))]
    staying = parts_that_stay(parts, n_before, reach)
    begin = sum(part.n_rows for part in staying)
    again = [part.n_rows for part in staying] + part_sizes(hashes[begin:], reach)
    assert again == part_sizes(hashes, reach)


def boundaries(hashes: np.ndarray, reach: int) -> set[int]:
    """The hashes that parts begin with."""
    sizes = part_sizes(hashes, reach)
    return {int(hashes[start]) for start in np.cumsum([0, *sizes[:-1]])}


def test_what_happens_to_some_rows_moves_few_cuts() -> None:
    hashes, reach = hashes_of(64_000), 500
    before = boundaries(hashes, reach)
    assert 50 < len(before) < 78
    news = np.arange(64_000, 65_000, dtype=np.uint64)[::-1]
    changes = {
        "append": np.concatenate([hashes, news]),
        "prepend": np.concatenate([news, hashes]),
        "slide": np.concatenate([hashes[1_000:], news]),
        "insert": np.concatenate([hashes[:30_000], news, hashes[30_000:]]),
        "remove": np.concatenate([hashes[:30_000], hashes[31_000:]]),
    }
    for change, after in changes.items():
        assert len(before - boundaries(after, reach)) <= 4, change


def test_a_table_is_cut_as_its_dataset_is_until_it_has_outgrown_that() -> None:
    assert cuts_for(100, "id", None) == Cuts("id", 4096)
    assert cuts_for(4_000_000, "id", None) == Cuts("id", 31_250)
    assert cuts_for(4_000_000, "id", Cuts("id", 4096)) == Cuts("id", 4096)
    assert cuts_for(9_000_000, "id", Cuts("id", 4096)) == Cuts("id", 70_312)
    assert cuts_for(100, "other", Cuts("id", 9_000)) == Cuts("other", 4096)
