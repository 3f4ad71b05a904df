"""What a caller is told who gets no answer: one shape for every reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
LATER = {"Retry-After": "5"}
"""For what mends itself: the caller may come again after so many seconds."""


class Refused(Exception):
    """The request is not answered.

    Attributes
    ----------
    status
        Of HTTP.
    code
        For programs, such as ``MISSING_FIELD``.
    row, field
        Where in the request the reason lies: the position in a list (0 is the first), and the name; None
        where it lies nowhere in particular.
    headers
        More headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        row: int | None = None,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status, self.code, self.message, self.row, self.field = status, code, message, row, field
        self.headers: Headers = tuple((k.encode(), v.encode()) for k, v in (headers or {}).items())
        super().__init__(message)

    def body(self) -> bytes:
        """The answer's content.

        Examples
        --------
        >>> Refused(422, "MISSING_FIELD", "There is no 'income'.", row=3, field="income").body().decode()
        '{"error":{"code":"MISSING_FIELD","message":"There is no \\'income\\'.","row":3,"field":"income"}}'
        """
        error = {"code": self.code, "message": self.message, "row": self.row, "field": self.field}
        return msgspec.json.encode({"error": error})


def malformed(message: str) -> Refused:
    return Refused(400, "MALFORMED_JSON", message)


def wrong_row(
    code: str, message: str, *, row: int | None, field: str | None, is_list: bool = True
) -> Refused:
    """A row at fault; where the request is a single object the row has no number."""
    return Refused(422, code, message, row=row if is_list else None, field=field)
