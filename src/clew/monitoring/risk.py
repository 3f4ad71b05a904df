"""Page on harm: the labelled risk of a deployed model has certainly risen by more than its margin.

The monitor is a value that eats the losses of matured rows, day after day, and says when the evidence of
harm is worth its alpha. The evidence is that of `clew.stats.betting.harm_detector`; here it gets times, words
and the metric's unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from clew.entities import Finding, Json
from clew.monitoring.cohorts import TimeArray, event_days, from_datetime64, to_datetime64
from clew.stats import harm_detector, wilson_interval
from clew.stats.betting import RiskDetector
from clew.stats.metrics import Metric
from clew.stats.special import normal_quantile

CONFIDENCE = 0.95
"""Of the intervals people read; whether to page is decided by the evidence alone."""

MONITOR = "risk"


@dataclass(frozen=True, slots=True)
class LossScale:
    """The way back from scaled losses to the metric that people read.

    Attributes
    ----------
    metric
        As `clew.stats.metric_named` gives it.
    loss_bound
        What row losses were divided by: `Metric.loss_bound` of the reference.

    Examples
    --------
    >>> from clew.stats import metric_named
    >>> LossScale(metric_named("accuracy"), 1.0).value(0.15)
    0.85
    """

    metric: Metric
    loss_bound: float

    def scaled(self, losses: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Row losses as a share of the bound, 0 to 1, shape ``(n,)``; larger ones count as the bound."""
        return np.minimum(np.asarray(losses, dtype=np.float64) / self.loss_bound, 1.0)

    def value(self, scaled_mean_loss: float) -> float:
        """The metric at this mean of scaled losses."""
        return self.metric.value_of_loss(scaled_mean_loss * self.loss_bound)


@dataclass(frozen=True, slots=True)
class DaySums:
    """What the rows of one event-time day add up to: enough for means and intervals of any later stretch.

    Attributes
    ----------
    day
        Its midnight, UTC.
    first_row, n_rows
        Which rows: `first_row` counts from 0, the first row the monitor was ever fed.
    total, total_of_squares
        Of their scaled losses.
    """

    day: datetime
    first_row: int
    n_rows: int
    total: float
    total_of_squares: float


@dataclass(frozen=True, slots=True)
class MeanLoss:
    """A mean of scaled losses with its interval."""

    mean: float
    lower: float
    upper: float
    n: int
    method: str


@dataclass(frozen=True, slots=True)
class RiskMonitor:
    """Says when the mean loss has certainly risen above the reference by more than the margin.

    A value: `observe` returns the next one, and feeding rows in pieces gives the same as feeding them at
    once. After a page it stays an alarm; whoever mends the model starts a new monitor from the level of
    the new one.

    Losses are *scaled*: divided by the metric's loss bound, so 0 to 1 (`LossScale` goes both ways).

    Attributes
    ----------
    since
        Rows before it belong to an earlier monitor.
    last_time
        Event time of the newest row observed, or None.
    detector
        The evidence.
    peak_log_evidence
        The largest evidence so far, as a logarithm.
    days
        Sums by event-time day, as far back as the onset may still lie.

    Examples
    --------
    An error rate of 8 % grows to 30 % on 11 February, 100 labels a day:

    >>> from datetime import UTC, timedelta
    >>> from clew.stats import metric_named
    >>> start = datetime(2026, 2, 1, tzinfo=UTC)
    >>> monitor = RiskMonitor.start(0.08, 0.01, alpha=0.001, horizon_rows=9000, since=start)
    >>> rng = np.random.default_rng(0)
    >>> for day in range(12):
    ...     times = np.full(100, to_datetime64(start + timedelta(days=day)))
    ...     wrong = rng.random(100) < (0.08 if day < 10 else 0.30)
    ...     monitor = monitor.observe(wrong, times)
    >>> found = monitor.finding("churn", LossScale(metric_named("accuracy"), 1.0))
    >>> found.level, f"{found.onset:%d %B}", found.n
    ('page', '11 February', 200)
    >>> found.sentence
    'accuracy fell to 0.670 (95 % 0.602 to 0.731, 200 rows since 2026-02-11);
    the limit was 0.910; evidence 1:10^16'
    """

    since: datetime
    last_time: datetime | None
    detector: RiskDetector
    peak_log_evidence: float
    days: tuple[DaySums, ...]

    @classmethod
    def start(
        cls, reference_upper: float, margin: float, alpha: float, horizon_rows: int, since: datetime
    ) -> RiskMonitor:
        """A monitor before its first row.

        Parameters
        ----------
        reference_upper
            Upper confidence bound of the reference's mean scaled loss, 0 to 1. The promise holds as far as
            this bound does; a bound from few rows lies higher, so harm is found later.
        margin
            How much more is still fine, in scaled loss.
        alpha
            False pages to expect at most within one horizon: see `page_alpha`.
        horizon_rows
            The rows of a quarter, so that alpha is one per quarter.
        since
            Aware; rows must not be older.

        Raises
        ------
        ValueError
            If reference plus margin does not lie strictly between 0 and 1.
        """
        to_datetime64(since)
        return cls(since, None, harm_detector(reference_upper, margin, alpha, horizon_rows), -math.inf, ())

    @property
    def is_alarm(self) -> bool:
        """True once the evidence has reached ``1 / alpha``."""
        return self.detector.alarm_row is not None

    @property
    def n_rows(self) -> int:
        """Rows observed so far."""
        return self.detector.evidence.n_rows

    @property
    def onset(self) -> datetime | None:
        """The day since when harm is most likely; of use once there is an alarm, None before any row."""
        rows = self._rows_since_onset()
        return rows[0].day if rows else None

    def observe(self, losses: npt.ArrayLike, times: TimeArray) -> RiskMonitor:
        """The monitor after these rows.

        Parameters
        ----------
        losses
            Scaled losses of matured rows that have a label, shape ``(n,)``, in event order. Rows without a
            label are left out before (`newly_scored`): unknown is neither right nor wrong.
        times
            Their event times, UTC, shape ``(n,)``.

        Raises
        ------
        ValueError
            If a loss is NaN or below 0, a row is older than `since`, or the shapes differ.
        """
        rows, moments = np.asarray(losses, dtype=np.float64), np.asarray(times, dtype="datetime64[us]")
        if rows.shape != moments.shape:
            raise ValueError(
                f"losses have shape {rows.shape}, times {moments.shape}; one time a loss, please"
            )
        if not len(rows):
            return self
        self._refuse_older_rows(moments)
        detector, log_evidence = self.detector.extended(rows)
        newest = from_datetime64(moments.max())
        return replace(
            self,
            last_time=newest if self.last_time is None else max(newest, self.last_time),
            detector=detector,
            peak_log_evidence=max(self.peak_log_evidence, float(log_evidence.max())),
            days=_still_needed(_joined(self.days, _day_sums(rows, moments, self.n_rows)), detector),
        )

    def _refuse_older_rows(self, moments: TimeArray) -> None:
        if moments.min() < to_datetime64(self.since):
            i = int(np.argmin(moments))
            raise ValueError(
                f"times: row {i} is {moments[i]}, before {self.since.isoformat()}, when this monitor started"
            )

    def level_since_onset(self) -> MeanLoss | None:
        """The mean scaled loss since the day of the onset, or None before any row.

        The interval is nominal. The same rows chose the onset as the worst stretch, so the mean of a short
        stretch is likely somewhat too high.
        """
        rows = self._rows_since_onset()
        return _level(rows) if rows else None

    def _rows_since_onset(self) -> tuple[DaySums, ...]:
        row = self.detector.onset_row
        if row is None:
            return ()
        # The nearest start of a day: an onset in the evening makes tomorrow the first bad day.
        after = tuple(day for day in self.days if day.first_row + day.n_rows / 2 >= row)
        return after or self.days[-1:]

    def finding(self, deployment: str, to_metric: LossScale, now: datetime | None = None) -> Finding | None:
        """A page once harm is certain, in the metric's unit; None as long as it is not.

        Parameters
        ----------
        deployment
            The subject of the finding.
        to_metric
            From scaled losses to what people read.
        now
            When it was found; by default the event time of the newest row.
        """
        level = self.level_since_onset()
        onset = self.onset
        if not self.is_alarm or level is None or onset is None or self.last_time is None:
            return None
        lower, upper = sorted(to_metric.value(edge) for edge in (level.lower, level.upper))
        return Finding(
            monitor=MONITOR,
            level="page",
            subject=deployment,
            window_start=onset,
            window_end=self.last_time,
            found_at=now or self.last_time,
            value=to_metric.value(level.mean),
            lower=lower,
            upper=upper,
            n=level.n,
            method=f"e-detector with spread starts, alpha {self.detector.evidence.alpha:g}; {level.method}",
            sentence=self._sentence(to_metric, level, lower, upper, onset),
            onset=onset,
            evidence=self._numbers(to_metric, level),
        )

    def _sentence(
        self, to_metric: LossScale, level: MeanLoss, lower: float, upper: float, onset: datetime
    ) -> str:
        moved = "fell" if to_metric.metric.greater_is_better else "rose"
        return (
            f"{to_metric.metric.name} {moved} to {_shown(to_metric.value(level.mean))}"
            f" ({CONFIDENCE * 100:g} % {_shown(lower)} to {_shown(upper)},"
            f" {level.n:,} rows since {onset:%Y-%m-%d});"
            f" the limit was {_shown(to_metric.value(self.detector.limit))};"
            f" evidence 1:{_odds(self.peak_log_evidence)}"
        )

    def _numbers(self, to_metric: LossScale, level: MeanLoss) -> Json:
        return {
            "limit": to_metric.value(self.detector.limit),
            "scaled_loss": level.mean,
            "scaled_limit": self.detector.limit,
            "log_evidence": self.peak_log_evidence,
            "log_evidence_needed": -math.log(self.detector.evidence.alpha),
            "alarm_row": self.detector.alarm_row,
            "onset_row": self.detector.onset_row,
            "n_rows": self.n_rows,
        }

    def to_dict(self) -> Json:
        """Plain values for JSON."""
        return {
            "since": self.since.isoformat(),
            "last_time": self.last_time.isoformat() if self.last_time else None,
            "detector": self.detector.to_dict(),
            "peak_log_evidence": self.peak_log_evidence if self.n_rows else None,
            "days": [{**asdict(day), "day": day.day.isoformat()} for day in self.days],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> RiskMonitor:
        """The monitor that `to_dict` wrote."""
        last_time, peak = stored["last_time"], stored["peak_log_evidence"]
        return cls(
            since=datetime.fromisoformat(stored["since"]),
            last_time=None if last_time is None else datetime.fromisoformat(last_time),
            detector=RiskDetector.from_dict(stored["detector"]),
            peak_log_evidence=-math.inf if peak is None else float(peak),
            days=tuple(
                DaySums(**{**day, "day": datetime.fromisoformat(day["day"])}) for day in stored["days"]
            ),
        )


def _day_sums(losses: npt.NDArray[np.float64], moments: TimeArray, n_before: int) -> tuple[DaySums, ...]:
    days = event_days(moments)
    losses = np.minimum(losses, 1)
    first = np.flatnonzero(np.concatenate([[True], days[1:] != days[:-1]]))
    n_rows = np.diff(np.append(first, len(days)))
    totals, squares = np.add.reduceat(losses, first), np.add.reduceat(losses**2, first)
    return tuple(
        DaySums(from_datetime64(days[i]), n_before + int(i), int(n), float(total), float(square))
        for i, n, total, square in zip(first, n_rows, totals, squares, strict=True)
    )


def _joined(before: tuple[DaySums, ...], after: tuple[DaySums, ...]) -> tuple[DaySums, ...]:
    if not before or before[-1].day != after[0].day:
        return before + after
    old, new = before[-1], after[0]
    both = DaySums(
        day=old.day,
        first_row=old.first_row,
        n_rows=old.n_rows + new.n_rows,
        total=old.total + new.total,
        total_of_squares=old.total_of_squares + new.total_of_squares,
    )
    return (*before[:-1], both, *after[1:])


def _still_needed(days: tuple[DaySums, ...], detector: RiskDetector) -> tuple[DaySums, ...]:
    # A bet's best start only ever moves to newer rows, so no onset can lie before the oldest of them.
    oldest = min(detector.evidence.start_rows)
    return tuple(day for day in days if day.first_row + day.n_rows > oldest)


def _level(days: tuple[DaySums, ...]) -> MeanLoss:
    n = sum(day.n_rows for day in days)
    total = math.fsum(day.total for day in days)
    squares = math.fsum(day.total_of_squares for day in days)
    mean = total / n
    # A loss between 0 and 1 equals its square only when it is 0 or 1.
    if math.isclose(total, squares, rel_tol=1e-12, abs_tol=1e-12):
        lower, upper = wilson_interval([total], [n], CONFIDENCE)
        return MeanLoss(mean, float(lower[0]), float(upper[0]), n, "wilson interval")
    deviation = math.sqrt(max(squares - total * mean, 0.0) / max(n - 1, 1))
    reach = normal_quantile((1 + CONFIDENCE) / 2) * deviation / math.sqrt(n)
    return MeanLoss(mean, max(mean - reach, 0.0), min(mean + reach, 1.0), n, "normal interval")


def _shown(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.4g}"


def _odds(log_evidence: float) -> str:
    return f"{math.exp(log_evidence):,.0f}" if log_evidence < 14 else f"10^{log_evidence / math.log(10):.0f}"
