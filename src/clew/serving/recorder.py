"""Writing to the prediction log before an answer is given, and what happens when that fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from clew.errors import LogFailed
from clew.serving.figures_file import WorkerFigures
from clew.serving.refusals import LATER, Refused
from clew.storage.log import LogWriter
from clew.storage.records import Record

log = logging.getLogger("clew.serving")
COMPLAIN_EVERY_SECONDS = 60.0


class Recorder:
    """One writer for all threads of a worker.

    Parameters
    ----------
    must_log
        Whether what cannot be logged is not answered (``serving.log_failure = "stop"``).
    """

    def __init__(self, writer: LogWriter, figures: WorkerFigures, *, must_log: bool) -> None:
        self._writer, self._figures, self._must_log = writer, figures, must_log
        self._complained_at = -COMPLAIN_EVERY_SECONDS

    def append(self, records: Sequence[Record]) -> list[str] | None:
        """Log the records in one write; returns their ids, or None where an answer may go without.

        Raises
        ------
        Refused
            503 with the reason when the log cannot be written and must be.
        """
        try:
            return self._writer.append(records)
        except LogFailed as error:
            self._complain(error, len(records))
            if self._must_log:
                raise not_logged(error) from error
            self._figures.n_unlogged += len(records)
            return None

    def append_or_refuse(self, records: Sequence[Record]) -> list[str]:
        """Log what would be lost otherwise, such as labels, whatever the setting says of answers."""
        try:
            return self._writer.append(records)
        except LogFailed as error:
            self._complain(error, len(records))
            raise not_logged(error) from error

    def _complain(self, error: LogFailed, n_records: int) -> None:
        self._figures.n_log_failures += 1
        now = time.monotonic()
        if now - self._complained_at >= COMPLAIN_EVERY_SECONDS:
            self._complained_at = now
            facts = {"reason": str(error), "n_records": n_records, "must_log": self._must_log}
            log.error("the prediction log cannot be written", extra=facts)


def not_logged(error: LogFailed) -> Refused:
    return Refused(503, "LOG_FAILED", f"Nothing is answered that cannot be logged. {error}", headers=LATER)
