"""Labels that callers send: the truth about a key, or about an answer that they were given."""

from __future__ import annotations

from clew.errors import NotFound, did_you_mean
from clew.serving.columns import Columns, empty_key, is_of_kind, wrong_kind
from clew.serving.refusals import wrong_row
from clew.serving.routing_table import Served
from clew.serving.rows import Row, read_rows
from clew.storage.log import parse_prediction_id
from clew.storage.records import Label, Value

PREDICTION_ID = "prediction_id"


def read_labels(served: Served, body: bytes, *, now: int, actor: str, max_rows: int) -> list[Label]:
    """The labels of a request's body, an object or a list of objects.

    A row names a key, or with ``prediction_id`` an answer, and has the label's column; null takes an earlier
    label back. A key that nothing was predicted for is kept: the prediction may come later.

    Raises
    ------
    Refused
        422 naming row and field, when one is missing, unknown, or of another kind than the dataset's column.
    """
    rows, is_list = read_rows(body, max_rows)
    return [
        _label(served, row, number, now=now, actor=actor, is_list=is_list) for number, row in enumerate(rows)
    ]


def n_of_unknown_classes(served: Served, labels: list[Label]) -> int:
    """How many labels are of a class that the champion never saw, and so can never answer."""
    classes = None if served.champion is None else served.champion.model.classes
    if classes is None:
        return 0
    return sum(each.label is not None and each.label not in classes for each in labels)


def _label(served: Served, row: Row, number: int, *, now: int, actor: str, is_list: bool) -> Label:
    columns = served.columns
    where = f"Row {number}: " if is_list else ""

    def refused(code: str, field: str, message: str) -> Exception:
        return wrong_row(code, f"{where}{message}", row=number, field=field, is_list=is_list)

    known = (columns.key, PREDICTION_ID, columns.label)
    for name in row:
        if name not in known:
            raise refused(
                "UNKNOWN_FIELD", name, f"{name!r} is no part of a label. {did_you_mean(name, known)}"
            )
    if columns.label not in row:
        message = f"{columns.label!r} is missing: the label, or null to take an earlier one back."
        raise refused("MISSING_FIELD", columns.label, message)
    key, prediction = row.get(columns.key), row.get(PREDICTION_ID)
    if key is None and prediction is None:
        message = f"{columns.key!r} is missing, which names what it is about; or send {PREDICTION_ID!r}."
        raise refused("MISSING_FIELD", columns.key, message)
    if key is not None and not is_of_kind(key, columns.key_kind):
        raise wrong_kind(columns.key, key, columns.key_kind, number, is_list)
    if key == "":
        raise empty_key(columns.key, number, is_list)
    if prediction is not None:
        try:
            parse_prediction_id(str(prediction))
        except NotFound as error:
            raise refused("WRONG_TYPE", PREDICTION_ID, str(error)) from None
    label = _checked(columns, row[columns.label], number, is_list)
    about = "" if prediction is None else str(prediction)
    return Label(served.name, now, columns.own_key(key), label, "http", actor, about)


def _checked(columns: Columns, label: Value, number: int, is_list: bool) -> Value:
    if label is None:
        return None
    if not is_of_kind(label, columns.label_kind):
        raise wrong_kind(columns.label, label, columns.label_kind, number, is_list)
    if label == "":
        message = f"{columns.label!r} is an empty text, which is no class. Send null for what is not known."
        where = f"Row {number}: " if is_list else ""
        raise wrong_row("WRONG_VALUE", f"{where}{message}", row=number, field=columns.label, is_list=is_list)
    return int(label) if columns.label_kind == "whole number" else label
