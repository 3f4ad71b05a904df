from __future__ import annotations

import io
import os
import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.entities import Json
from clew.errors import ClewError, DataError, MissingExtra, ProjectError, TrainingFailed
from clew.registry import Predictions
from clew.training import protocol
from clew.training.protocol import Message, NotAMessage


def through_bytes(header: Json, buffers: tuple[bytes, ...] = ()) -> Message:
    written = bytearray()
    protocol.send(written.extend, header, buffers)
    stream = io.BytesIO(written)
    return protocol.receive(lambda n_bytes: bytearray(stream.read(n_bytes)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(
    header=st.dictionaries(st.text().filter(lambda name: name != "buffers"), json_values),
    buffers=st.lists(st.binary()),
)
def test_messages_arrive_as_they_were_sent(header: Json, buffers: list[bytes]) -> None:
    message = through_bytes(header, tuple(buffers))
    assert message.header == header
    assert [bytes(buffer) for buffer in message.buffers] == buffers


def test_numbers_that_json_does_not_have_arrive() -> None:
    sent = through_bytes({"loss": [float("nan"), float("inf"), -0.0]}).header["loss"]
    assert np.array_equal(sent, [np.nan, np.inf, -0.0], equal_nan=True)
    assert np.signbit(sent[2])


def test_messages_follow_one_another_through_a_pipe() -> None:
    reading, writing = os.pipe()
    big = os.urandom(1 << 20)  # more than a pipe holds

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            for n in range(3):
                protocol.send(lambda content: pipe.writelines([content]), {"n": n}, [big])

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as pipe:
        for n in range(3):
            message = protocol.receive(lambda n_bytes: bytearray(pipe.read(n_bytes)))
            assert (message.header, bytes(message.buffers[0])) == ({"n": n}, big)
    thread.join()


def test_what_is_no_message_is_refused() -> None:
    stream = io.BytesIO(b"what is this pipe for?")
    with pytest.raises(NotAMessage, match="this one with b'what'"):
        protocol.receive(lambda n_bytes: bytearray(stream.read(n_bytes)))


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.5, np.nan, -0.0]),
        np.array([1, 2], np.int8),
        np.array([True, False]),
        np.array(["no", "maybe", "Zürich"]),
        np.array(["no", None, "yes"], object),
        np.array([], np.float64),
        np.array([], object),
        np.arange(6.0).reshape(3, 2),
        np.asfortranarray(np.arange(6.0).reshape(3, 2)),
        np.array(["2026-01-01"], "datetime64[us]"),
    ],
)
def test_arrays_arrive_as_they_were(values: np.ndarray[Any, Any]) -> None:
    arrived = protocol.unpack_array(protocol.pack_array(values))
    assert (arrived.dtype, arrived.shape) == (values.dtype, values.shape)
    assert np.array_equal(arrived, values, equal_nan=values.dtype.kind == "f")


def test_nothing_pickled_is_read_or_written() -> None:
    file = io.BytesIO()
    np.save(file, np.array([object()], object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        protocol.unpack_array(file.getvalue())
    with pytest.raises(pa.ArrowInvalid):
        protocol.pack_array(np.array([object()], object))


def test_tables_arrive_with_their_types() -> None:
    city = pa.array(["Ulm", None, "Ulm"]).dictionary_encode()
    table = pa.table({"city": city, "ts": pa.array([1, 2, 3], pa.timestamp("us", "UTC"))}).slice(1)
    assert protocol.unpack_table(protocol.pack_table(table)).equals(table)


@pytest.mark.parametrize(
    "predictions",
    [
        Predictions(np.array([1.5, 2.5])),
        Predictions(np.array(["no", "yes"]), np.array([[0.75, 0.25], [0.1, 0.9]]), ("no", "yes")),
        Predictions(np.array([True, False]), None, (False, True)),
        Predictions(np.array([], np.int64), np.empty((0, 2)), (0, 1)),
    ],
)
def test_predictions_arrive_to_the_last_bit(predictions: Predictions) -> None:
    header, buffers = protocol.pack_predictions(predictions)
    arrived = protocol.unpack_predictions(through_bytes(header, tuple(buffers)))
    assert arrived.is_same(predictions)
    assert arrived.predicted.dtype == predictions.predicted.dtype


@pytest.mark.parametrize(
    "error",
    [
        TrainingFailed("it broke", "Traceback …", b"printed"),
        ProjectError("cannot be imported", "Traceback …"),
        DataError("row 3", "busy", [3, 4]),
        MissingExtra("polars", "polars", "bikes.py"),
        ClewError("something"),
    ],
)
def test_errors_arrive_with_their_class_words_and_attributes(error: ClewError) -> None:
    arrived = protocol.unpack_error(through_bytes(protocol.pack_error(error)).header)
    assert (type(arrived), str(arrived)) == (type(error), str(error))
    expected = {name: value for name, value in vars(error).items() if name != "output"}
    assert expected.items() <= vars(arrived).items()


def test_attributes_that_cannot_travel_are_left_behind() -> None:
    error = ClewError("words")
    vars(error)["model"] = object()
    vars(error)["rows"] = [1, (2, None)]
    arrived = protocol.unpack_error(through_bytes(protocol.pack_error(error)).header)
    assert vars(arrived) == {"rows": (1, [2, None])}


@pytest.mark.parametrize("name", ["SystemExit", "did_you_mean", "Iterable", "NoSuchError"])
def test_only_errors_of_clews_are_made_from_a_name(name: str) -> None:
    arrived = protocol.unpack_error({"class": name, "message": "words", "attributes": {}})
    assert (type(arrived), str(arrived)) == (ClewError, "words")
