"""Long series of numbers that runs logged, told in a few: counted and thinned by the database."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from clew.storage.rows import Reader, Row
from clew.storage.tables import metadata


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """One name's numbers: how many, the first and the last, and some spread over all of them.

    Attributes
    ----------
    points
        The first number, and the last of each of so many equal pieces as were asked for.
    """

    name: str
    n: int
    first: float
    last: float
    last_step: int | None
    points: tuple[float, ...]


def summarise_series(reader: Reader, run: str, n_points: int) -> list[SeriesSummary]:
    """Each series of a run, in the order in which their names first came."""
    rows = metadata.tables["run_metrics"]
    place = func.row_number().over(partition_by=rows.c.name, order_by=rows.c.sequence)
    n = func.count().over(partition_by=rows.c.name)
    numbered = (
        select(rows.c.name, rows.c.sequence, rows.c.step, rows.c.value, place.label("place"), n.label("n"))
        .where(rows.c.run == run)
        .subquery()
    )
    # The last row of each of `n_points` equal pieces, and the first of all.
    piece = numbered.c.place * n_points // numbered.c.n
    before = (numbered.c.place - 1) * n_points // numbered.c.n
    is_kept = (piece > before) | (numbered.c.place == 1)
    found: dict[str, list[Row]] = {}
    for row in reader.rows(select(numbered).where(is_kept).order_by(numbered.c.sequence)):
        found.setdefault(row["name"], []).append(row)
    return [_summary(name, kept) for name, kept in found.items()]


def _summary(name: str, kept: list[Row]) -> SeriesSummary:
    first, last = kept[0], kept[-1]
    return SeriesSummary(
        name, last["n"], first["value"], last["value"], last["step"], tuple(row["value"] for row in kept)
    )
