"""The doorbell: two numbers in a small mapped file by which processes of one host hear of changes.

Workers look at it every few milliseconds, which costs nothing; the database, which is what counts, they ask
less often. The numbers are written whole: each is one aligned machine word.
"""

from __future__ import annotations

import mmap
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

RUN_FOLDER = "run"
"""In the store's folder: where the processes of a running system meet."""

FILE = "doorbell"
_N_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Doorbell:
    """The mapped file ``doorbell`` in the folder where running processes meet; made when it is missing.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     heard, rung = Doorbell(Path(folder)), Doorbell(Path(folder))
    ...     rung.ring(7)
    ...     rung.set_clock(datetime(2011, 7, 1, tzinfo=UTC))
    ...     print(heard.generation(), heard.clock())
    7 2011-07-01 00:00:00+00:00
    """

    def __init__(self, run_folder: Path) -> None:
        run_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(run_folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < _N_BYTES:
                os.ftruncate(descriptor, _N_BYTES)
            self._mapped = mmap.mmap(descriptor, _N_BYTES)
        finally:
            os.close(descriptor)
        self._numbers = memoryview(self._mapped).cast("q")

    def ring(self, generation: int) -> None:
        """Say that the routes have this generation now."""
        self._numbers[0] = generation

    def generation(self) -> int:
        return self._numbers[0]

    def set_clock(self, moment: datetime | None) -> None:
        """Let every process live at `moment`; None gives them the real clock back."""
        self._numbers[1] = 0 if moment is None else (moment - _EPOCH) // _MICROSECOND

    def clock(self) -> datetime | None:
        """The moment of a replay, or None for the real clock."""
        microseconds = self._numbers[1]
        return _EPOCH + microseconds * _MICROSECOND if microseconds else None

    def clock_microseconds(self) -> int:
        """The moment of a replay in whole microseconds since 1970; 0 for the real clock."""
        return self._numbers[1]

    def close(self) -> None:
        self._numbers.release()
        self._mapped.close()
