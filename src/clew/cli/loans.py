"""The invented loan applications of the project that ``clew init`` makes.

Half-way through, what makes a loan fail changes, so that a replay has something to notice.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

N_DAYS, N_A_DAY, SEED = 547, 40, 2024
FIRST_DAY, CHANGE_DAY = "2024-01-01", 274
"""The change comes on 1 October 2024."""

CHANNELS = ("branch", "broker", "online")
EMPLOYMENTS = ("employed", "retired", "self-employed", "student")


def write_loans(path: Path) -> None:
    """Write the table as one Parquet file; the same rows every time."""
    import pyarrow.parquet as pq

    pq.write_table(loan_table(), path, compression="zstd")


def loan_table() -> pa.Table:
    """The applications in order of time: 40 on each of 547 days.

    Examples
    --------
    >>> table = loan_table()
    >>> table.num_rows, table.column("application_id")[0].as_py()
    (21880, 'L00001')
    """
    import numpy as np
    import pyarrow as pa

    rng = np.random.Generator(np.random.PCG64(SEED))
    n_rows = N_DAYS * N_A_DAY
    day = np.repeat(np.arange(N_DAYS), N_A_DAY)
    second = np.sort(rng.integers(8 * 3600, 20 * 3600, size=(N_DAYS, N_A_DAY)), axis=1).ravel()
    seconds = (day * 86_400 + second).astype("timedelta64[s]")
    applied_at = (np.datetime64(FIRST_DAY) + seconds).astype("datetime64[us]")
    income = np.round(np.exp(rng.normal(7.9, 0.4, n_rows)), -1)
    amount = np.round(np.exp(rng.normal(9.2, 0.5, n_rows)), -2)
    term = rng.choice([12, 24, 36, 48, 60], n_rows)
    age = rng.integers(19, 76, n_rows)
    channel = rng.choice(len(CHANNELS), n_rows, p=[0.35, 0.35, 0.3])
    employment = rng.choice(len(EMPLOYMENTS), n_rows, p=[0.45, 0.15, 0.3, 0.1])
    burden = amount / term / income
    score = _score(burden, age, channel, employment, day >= CHANGE_DAY)
    missed = rng.random(n_rows) < 1 / (1 + np.exp(-score))
    return pa.table(
        {
            "applied_at": pa.array(applied_at).cast(pa.timestamp("us", "UTC")),
            "application_id": [f"L{number:05d}" for number in range(1, n_rows + 1)],
            "income": income,
            "amount": amount,
            "term_months": term.astype("int64"),
            "age": age.astype("int64"),
            "channel": [CHANNELS[code] for code in channel],
            "employment": [EMPLOYMENTS[code] for code in employment],
            "missed_payment": missed,
        }
    )


def _score(
    burden: np.ndarray, age: np.ndarray, channel: np.ndarray, employment: np.ndarray, is_after: np.ndarray
) -> np.ndarray:
    """Log-odds of a missed payment; the safest channel becomes the riskiest."""
    import numpy as np

    before, after = np.array([-0.4, -2.2, 0.4])[channel], np.array([-0.4, 2.6, 0.4])[channel]
    person = np.array([-0.6, -1.6, 1.2, 1.2])[employment] + 0.08 * (40 - age)
    score: np.ndarray = np.where(is_after, after, before) + person + 25 * (burden - 0.15) - 1
    return score
