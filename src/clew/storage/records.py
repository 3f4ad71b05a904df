"""What the prediction log holds: typed records, appended before an answer is given and never changed.

A record travels as msgpack arrays tagged by kind. Times are whole microseconds since 1970, UTC.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

Role: TypeAlias = Literal["champion", "canary", "shadow"]
Value: TypeAlias = "str | int | float | bool | None"


class Prediction(msgspec.Struct, tag="p", array_like=True, frozen=True, gc=False):
    """One answer: to a caller, or of a shadow to nobody.

    Attributes
    ----------
    deployment, version, role
        Who answered. A canary's answer went to the caller, as a champion's; a shadow's did not.
    answered_at, event_time
        When it was answered, by the system's clock, and when the thing predicted happens.
    key, entity
        What it is about, and whom it belongs to; the entity is None where the dataset has none.
    names, features
        The columns it was asked with and their values, in the same order.
    predicted, probabilities
        The answer; probabilities in the order of the version's classes, None for numbers.
    request
        Names the request: all answers to it, the shadow's too, have the same.
    microseconds
        What the model took for it.
    unseen
        Categorical columns whose value the version had never seen.
    threshold
        The probability of the positive class from which on it was answered, when one was in force.
    """

    deployment: str
    version: int
    role: Role
    answered_at: int
    event_time: int
    key: Value
    entity: Value
    names: tuple[str, ...]
    features: tuple[Value, ...]
    predicted: Value
    probabilities: tuple[float, ...] | None
    request: str
    microseconds: int
    unseen: tuple[str, ...] = ()
    threshold: float | None = None


class Failure(msgspec.Struct, tag="f", array_like=True, frozen=True, gc=False):
    """A version raised where it should have answered; `error` is its last line, without values of users."""

    deployment: str
    version: int
    role: Role
    answered_at: int
    event_time: int
    key: Value
    request: str
    error: str


class Label(msgspec.Struct, tag="l", array_like=True, frozen=True, gc=False):
    """A truth that arrived: the newest one of a key wins; None takes an earlier one back.

    `prediction` is the id of the answer it was sent for, when the caller named that and not the key.
    """

    deployment: str
    received_at: int
    key: Value
    label: Value
    source: Literal["http", "table"]
    actor: str
    prediction: str = ""


class LeanPrediction(Prediction, tag="p", array_like=True, frozen=True, gc=False):
    """A prediction on its way into a table: the names, the same in row after row, are left as written."""

    names: msgspec.Raw  # type: ignore[assignment]


Record: TypeAlias = Prediction | Failure | Label

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Prediction | Failure | Label)
_lean_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(LeanPrediction | Failure | Label)


def encode_record(record: Record) -> bytes:
    return _encoder.encode(record)


def decode_record(content: bytes | memoryview) -> Record:
    """Read one record.

    Raises
    ------
    msgspec.DecodeError
        When the bytes are none.
    """
    record: Record = _decoder.decode(content)
    return record


def decode_lean_record(content: bytes | memoryview) -> Record:
    """Read one record, a prediction as a `LeanPrediction`: for many at once, in half of the memory."""
    record: Record = _lean_decoder.decode(content)
    return record
