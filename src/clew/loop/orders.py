"""When a candidate is ordered: the words of ``retrain=`` other than ``auto`` and ``never``."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from clew.entities import Trigger


@dataclass(slots=True)
class Orders:
    """Remembers when each trigger last ordered, and says which of them order now.

    Attributes
    ----------
    triggers
        The declaration's ``retrain=``.
    last
        For each trigger when it last ordered, and the rows matured by then; at first when life began.
    asked
        What people asked for since the last order, in words.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> orders = Orders.begin((Trigger("rows", rows=500),), datetime(2026, 1, 1, tzinfo=UTC), 1000)
    >>> orders.due(datetime(2026, 2, 1, tzinfo=UTC), 1499, False)
    ()
    >>> orders.due(datetime(2026, 2, 2, tzinfo=UTC), 1500, False)
    ('500 more rows matured',)
    """

    triggers: tuple[Trigger, ...]
    last: list[tuple[datetime, int]]
    asked: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, triggers: tuple[Trigger, ...], now: datetime, n_matured: int) -> Orders:
        """Everything is counted from `now`, when `n_matured` rows had matured."""
        return cls(triggers, [(now, n_matured)] * len(triggers))

    def ask(self, why: str) -> None:
        """A person wants a candidate, whatever the triggers say."""
        self.asked.append(why)

    def due(self, now: datetime, n_matured: int, has_drifted: bool) -> tuple[str, ...]:
        """Why a candidate is ordered now, a reason for each trigger that fires; it then waits anew."""
        fired, self.asked = self.asked, []
        for place, trigger in enumerate(self.triggers):
            why = _reason(trigger, *self.last[place], now, n_matured, has_drifted)
            if why and n_matured > self.last[place][1]:
                self.last[place] = (now, n_matured)
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
