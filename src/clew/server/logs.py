"""How the processes of a running system log: a line an event on stderr, a constant message, its facts."""

from __future__ import annotations

import logging

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class FactsFormatter(logging.Formatter):
    """Time, level, who, what, and every fact that was given beside it.

    Examples
    --------
    >>> record = logging.makeLogRecord({"name": "clew", "levelname": "INFO", "msg": "went live", "n": 3})
    >>> FactsFormatter().format(record).split(maxsplit=2)[2]
    'INFO clew: went live n=3'
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        facts = [f"{name}={value}" for name, value in vars(record).items() if name not in _PLAIN]
        return " ".join([super().formatMessage(record), *facts])


def log_to_stderr() -> None:
    """Let this process log to stderr; the libraries it uses only from warnings on."""
    handler = logging.StreamHandler()
    handler.setFormatter(FactsFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("clew").setLevel(logging.INFO)
