"""When a candidate is ordered: the words of ``retrain=`` other than ``auto`` and ``never``."""

from __future__ import annotations

from datetime import datetime

from clew.entities import Trigger


class Orders:
    """Remembers when each trigger last ordered, and says which of them order now.

    Parameters
    ----------
    triggers
        The declaration's ``retrain=``.
    now, n_matured
        When life begins, and the rows matured by then: everything is counted from here.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> orders = Orders((Trigger("rows", rows=500),), datetime(2026, 1, 1, tzinfo=UTC), 1000)
    >>> orders.due(datetime(2026, 2, 1, tzinfo=UTC), 1499, False)
    ()
    >>> orders.due(datetime(2026, 2, 2, tzinfo=UTC), 1500, False)
    ('500 more rows matured',)
    """

    def __init__(self, triggers: tuple[Trigger, ...], now: datetime, n_matured: int) -> None:
        self._triggers = triggers
        self._last = dict.fromkeys(range(len(triggers)), (now, n_matured))

    def due(self, now: datetime, n_matured: int, has_drifted: bool) -> tuple[str, ...]:
        """Why a candidate is ordered now, a reason for each trigger that fires; it then waits anew."""
        fired = []
        for place, trigger in enumerate(self._triggers):
            why = _reason(trigger, *self._last[place], now, n_matured, has_drifted)
            if why and n_matured > self._last[place][1]:
                self._last[place] = (now, n_matured)
                fired.append(why)
        return tuple(fired)


def _reason(
    trigger: Trigger, since: datetime, n_since: int, now: datetime, n_matured: int, has_drifted: bool
) -> str:
    if trigger.kind == "every" and trigger.every is not None and trigger.every.after(since) <= now:
        return f"{trigger.every} went by"
    if trigger.kind == "rows" and trigger.rows is not None and n_matured - n_since >= trigger.rows:
        return f"{trigger.rows:,} more rows matured"
    if trigger.kind == "cron" and trigger.cron is not None and _next_cron(trigger.cron, since) <= now:
        return f"the schedule {trigger.cron!r} came round"
    if trigger.kind == "drift" and has_drifted:
        return "drift was confirmed"
    return ""


def _next_cron(expression: str, since: datetime) -> datetime:
    from croniter import croniter  # only projects with a schedule pay for it

    upcoming: datetime = croniter(expression, since).get_next(datetime)
    return upcoming
