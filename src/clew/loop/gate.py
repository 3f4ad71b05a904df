"""The gate: what a candidate must show before it may answer anybody.

A pure function from facts to a report. Each check says `pass`, `fail`, `undecided` (too few rows to tell)
or `not tested` (nothing to test with), with its numbers, so that a refusal can be read and argued with.
Only `fail` and `undecided` hold a candidate back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from clew.entities import GateCheck, GateReport, Outcome
from clew.stats.arrays import FloatArray
from clew.stats.calibration import expected_calibration_error
from clew.stats.intervals import mean_interval
from clew.stats.metrics import Metric
from clew.stats.paired import PairedComparison, better, non_inferior, paired_comparison

ALPHA = 0.05
"""Chance of a wrong `pass` or `fail` that each check may run."""

MISSING_JUMP = 0.5
"""A column whose share of missing values rose by more than half is no longer the column that was declared."""

TOO_GOOD = 0.02
"""A loss below a fiftieth of what a constant answer costs is a leak until somebody has looked."""

SMALLEST_SLICE = 30
"""Fewer rows than this cannot show a difference after correction; the slice is said to be not tested."""

CALIBRATION_LIMIT = 0.15
"""Probabilities that are off by more than this on average mislead whoever reads them."""

CALIBRATION_LOSS = 0.05
"""How much worse than the champion's a candidate's calibration may be."""


@dataclass(frozen=True, slots=True)
class ContractFacts:
    """The training rows held against the reference: shares of missing values by column, and the labels."""

    n_rows: int
    missing: Mapping[str, float]
    reference_missing: Mapping[str, float]
    n_classes: int | None = None


@dataclass(frozen=True, slots=True)
class LeakageFacts:
    """How training and evaluation rows are kept apart.

    `gap` lies between the last training row's event and the first evaluated one's, `needed_gap` is the
    label delay: a shorter gap would mean that a fit knew labels that had not matured.
    """

    gap: timedelta | None
    needed_gap: timedelta
    n_shared_keys: int
    n_shared_entities: int = 0


@dataclass(frozen=True, slots=True)
class ServingFacts:
    """Whether the package loads in another process and answers there as it did where it was made."""

    loads: bool
    largest_difference: float
    n: int
    package_bytes: int
    champion_package_bytes: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class GateFacts:
    """Everything the gate looks at; arrays are row losses on the same evaluation rows, shape ``(n,)``.

    `champion` is None for the first version. `evidence` is the paired betting evidence of a challenger
    that was proven better, and decides the paired check where it is given: it may be looked at any time,
    which a fixed interval may not. `confidence` is the probability given to the predicted class.
    """

    metric: Metric
    margin: float
    candidate: FloatArray
    champion: FloatArray | None
    anchor: FloatArray | None
    dummy: FloatArray
    linear: FloatArray
    minimum: Mapping[str, tuple[float, Metric, FloatArray]]
    contract: ContractFacts
    leakage: LeakageFacts
    serving: ServingFacts
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)
    correct: np.ndarray | None = None
    confidence: FloatArray | None = None
    champion_confidence: FloatArray | None = None
    champion_correct: np.ndarray | None = None
    evidence: float | None = None
    evidence_needed: float | None = None
    flip_share: float | None = None
    must_be_better: bool = False
    is_anchor: bool = False


def hold_gate(facts: GateFacts) -> GateReport:
    """Run every check, in order; later checks run even when an earlier one failed."""
    checks: tuple[Callable[[GateFacts], GateCheck | list[GateCheck]], ...] = (
        _data_contract,
        _leakage,
        _minimums,
        _beats_dummy,
        _not_worse_than_linear,
        _serving,
        _paired,
        _anchor,
        _slices,
        _calibration,
        _size,
        _flips,
    )
    found: list[GateCheck] = []
    for check in checks:
        result = check(facts)
        found += result if isinstance(result, list) else [result]
    return GateReport(tuple(found))


def _data_contract(facts: GateFacts) -> GateCheck:
    contract = facts.contract
    if contract.n_classes is not None and contract.n_classes < 2:
        sentence = f"all {contract.n_rows:,} training labels are one class"
        return GateCheck("data contract", "fail", sentence)
    jumps = {
        name: share - contract.reference_missing.get(name, 0.0) for name, share in contract.missing.items()
    }
    worst = max(jumps, key=lambda name: jumps[name], default=None)
    if worst is not None and jumps[worst] > MISSING_JUMP:
        sentence = (
            f"{worst} is missing in {contract.missing[worst]:.0%} of the training rows,"
            f" {contract.reference_missing.get(worst, 0.0):.0%} in the reference"
        )
        return GateCheck(
            "data contract", "fail", sentence, jumps[worst], limit=MISSING_JUMP, n=contract.n_rows
        )
    sentence = f"{contract.n_rows:,} training rows keep to the declared columns and types"
    return GateCheck("data contract", "pass", sentence, n=contract.n_rows)


def _leakage(facts: GateFacts) -> GateCheck:
    leak, n = facts.leakage, len(facts.candidate)
    if leak.n_shared_keys:
        return GateCheck(
            "leakage", "fail", f"{leak.n_shared_keys} keys stand in training and evaluation", n=n
        )
    if leak.gap is not None and leak.gap < leak.needed_gap:
        sentence = f"evaluation begins {leak.gap} after the last training row; labels need {leak.needed_gap}"
        return GateCheck("leakage", "fail", sentence, n=n)
    share = _upper_share_of_dummy(facts)
    if share < TOO_GOOD:
        sentence = (
            f"too good to be true: certainly below {TOO_GOOD:.0%} of a constant answer's loss; look for a"
            " column that knows the label"
        )
        return GateCheck("leakage", "fail", sentence, share, limit=TOO_GOOD, n=n)
    entities = "" if not leak.n_shared_entities else f"; {leak.n_shared_entities} entities appear in both"
    return GateCheck("leakage", "pass", f"no key is shared, the label delay is kept{entities}", n=n)


def _upper_share_of_dummy(facts: GateFacts) -> float:
    """Upper bound of the candidate's loss as a share of a constant answer's; infinite when that has none."""
    dummy = float(facts.dummy.mean()) if len(facts.dummy) else 0.0
    if not dummy:
        return math.inf
    # Errors are counted as they are; any other loss in units of the dummy's, as its own unit may be anything.
    unit = 1.0 if facts.metric.name == "accuracy" else dummy
    return mean_interval(facts.candidate / unit, 1 - 2 * ALPHA).upper * unit / dummy


def _minimums(facts: GateFacts) -> list[GateCheck]:
    if not facts.minimum:
        return [GateCheck("minimum", "not tested", "the declaration states no minimum=")]
    return [_minimum(name, *facts.minimum[name]) for name in sorted(facts.minimum)]


def _minimum(name: str, limit: float, metric: Metric, losses: FloatArray) -> GateCheck:
    title = f"minimum {name}"
    if not len(losses):
        return GateCheck(title, "undecided", "no labelled row to measure it on", limit=limit, n=0)
    interval = mean_interval(losses, 1 - 2 * ALPHA)
    value, best, worst = (
        metric.value_of_loss(loss) for loss in (interval.mean, max(interval.lower, 0.0), interval.upper)
    )
    sign = 1 if metric.greater_is_better else -1
    outcome: Outcome = (
        "pass" if sign * (worst - limit) >= 0 else "fail" if sign * (best - limit) < 0 else "undecided"
    )
    words = {"pass": "certainly reaches", "fail": "certainly misses", "undecided": "may miss"}[outcome]
    lower, upper = sorted((worst, best))
    sentence = f"{name} {value:.4g} ({lower:.4g} to {upper:.4g}) {words} {limit:g}"
    return GateCheck(title, outcome, sentence, value, lower, upper, limit, len(losses))


def _beats_dummy(facts: GateFacts) -> GateCheck:
    comparison = paired_comparison(facts.dummy, facts.candidate, 1 - 2 * ALPHA)
    outcome = better(comparison)
    words = {"pass": "beats", "fail": "is worse than", "undecided": "cannot be told from"}[outcome]
    return _compared("beats a dummy", outcome, f"{words} the best constant answer", comparison, 0.0)


def _not_worse_than_linear(facts: GateFacts) -> GateCheck:
    # A user's model may itself be linear, so a tie is fine: only a model that a straight line certainly
    # beats is held back.
    comparison = paired_comparison(facts.linear, facts.candidate, 1 - 2 * ALPHA)
    certain = non_inferior(comparison, facts.margin)
    outcome: Outcome = "fail" if certain == "fail" else "pass" if comparison.n else "undecided"
    words = "is certainly beaten by" if outcome == "fail" else "holds its own against"
    return _compared("linear model", outcome, f"{words} a linear model", comparison, -facts.margin)


def _serving(facts: GateFacts) -> GateCheck:
    serving = facts.serving
    if not serving.loads:
        return GateCheck("loads and answers", "fail", f"the package does not load: {serving.error}")
    if serving.largest_difference > 1e-6:
        sentence = f"answers differ by up to {serving.largest_difference:.3g} from those of the fitted model"
        return GateCheck(
            "loads and answers", "fail", sentence, serving.largest_difference, limit=1e-6, n=serving.n
        )
    sentence = f"loads in another process and gives the same {serving.n:,} answers"
    return GateCheck(
        "loads and answers", "pass", sentence, serving.largest_difference, limit=1e-6, n=serving.n
    )


def _paired(facts: GateFacts) -> GateCheck:
    name = "paired test"
    if facts.champion is None:
        return GateCheck(name, "not tested", "there is no champion to hold it against")
    comparison = paired_comparison(facts.champion, facts.candidate, 1 - 2 * ALPHA)
    if facts.evidence is not None and facts.evidence_needed is not None:
        sure = facts.evidence >= facts.evidence_needed
        sentence = f"evidence 1:{facts.evidence:.0f} that it is better (1:{facts.evidence_needed:.0f} needed)"
        return _compared(name, "pass" if sure else "undecided", sentence, comparison, None)
    if facts.must_be_better:
        outcome = better(comparison)
        words = {"pass": "is better than", "fail": "is worse than", "undecided": "cannot be told from"}[
            outcome
        ]
        return _compared(
            name, outcome, f"{words} the champion; in an episode it must be better", comparison, 0.0
        )
    outcome, limit = non_inferior(comparison, facts.margin / 2), -facts.margin / 2
    return _compared(name, outcome, f"{_WITHIN[outcome]} half the margin of the champion", comparison, limit)


def _anchor(facts: GateFacts) -> GateCheck:
    name = "anchor"
    if facts.anchor is None:
        who = "candidate" if facts.is_anchor else "champion"
        return GateCheck(name, "not tested", f"the {who} is itself the anchor")
    if facts.evidence is not None or facts.must_be_better:
        # Better than what serves now is a repair, whatever the anchor did in its day; it competes itself.
        return GateCheck(name, "not tested", "better than the champion; the anchor competes for itself")
    comparison = paired_comparison(facts.anchor, facts.candidate, 1 - 2 * ALPHA)
    outcome, limit = non_inferior(comparison, facts.margin / 2), -facts.margin / 2
    return _compared(name, outcome, f"{_WITHIN[outcome]} half the margin of the anchor", comparison, limit)


_WITHIN = {"pass": "is certainly within", "fail": "is certainly not within", "undecided": "may not be within"}


def _slices(facts: GateFacts) -> list[GateCheck]:
    if facts.champion is None:
        return [GateCheck("slices", "not tested", "there is no champion to hold them against")]
    champion, found = facts.champion, []
    groups = [(column, level) for column, values in facts.slices.items() for level in _levels(values)]
    if not groups:
        why = "no labelled row to measure them on" if facts.slices else "the declaration names no slices="
        return [GateCheck("slices", "not tested", why)]
    for column, level in groups:
        rows = facts.slices[column] == level
        found.append(_slice(f"slice {column}={level}", facts, champion, rows, len(groups)))
    return found


def _levels(values: np.ndarray) -> list[str]:
    return sorted(set(values.tolist()))


def _slice(name: str, facts: GateFacts, champion: FloatArray, rows: np.ndarray, n_slices: int) -> GateCheck:
    n = int(rows.sum())
    if n < SMALLEST_SLICE:
        return GateCheck(name, "not tested", f"{n} rows; at least {SMALLEST_SLICE} are needed", n=n)
    comparison = paired_comparison(champion[rows], facts.candidate[rows], 1 - 2 * ALPHA / n_slices)
    worse = non_inferior(comparison, facts.margin) == "fail"
    sentence = "is certainly served worse than by the champion" if worse else "shows no certain loss"
    return _compared(name, "fail" if worse else "pass", sentence, comparison, -facts.margin)


def _calibration(facts: GateFacts) -> GateCheck:
    name = "calibration"
    if facts.confidence is None or facts.correct is None or not len(facts.confidence):
        return GateCheck(name, "not tested", "the model gives no probabilities")
    found = expected_calibration_error(facts.correct, facts.confidence)
    limit = CALIBRATION_LIMIT
    if facts.champion_confidence is not None and facts.champion_correct is not None:
        theirs = expected_calibration_error(facts.champion_correct, facts.champion_confidence)
        limit = max(limit, theirs.corrected + CALIBRATION_LOSS)
    outcome: Outcome = "pass" if found.corrected <= limit else "fail"
    sentence = f"probabilities are off by {found.corrected:.3f} beyond noise (limit {limit:.3f})"
    return GateCheck(name, outcome, sentence, found.corrected, limit=limit, n=found.n)


def _size(facts: GateFacts) -> GateCheck:
    serving = facts.serving
    if serving.champion_package_bytes is None:
        return GateCheck(
            "size", "not tested", f"package of {serving.package_bytes:,} bytes; no champion to compare"
        )
    ratio = serving.package_bytes / max(serving.champion_package_bytes, 1)
    sentence = (
        f"package of {serving.package_bytes:,} bytes, {ratio:.2f} times the champion's; latency is"
        " recorded with the run"
    )
    return GateCheck("size", "pass", sentence, ratio)


def _flips(facts: GateFacts) -> GateCheck:
    if facts.flip_share is None:
        return GateCheck("flips", "not tested", "there is no champion whose decisions could flip")
    sentence = f"{facts.flip_share:.1%} of the newest decisions differ from the champion's"
    return GateCheck("flips", "pass", sentence, facts.flip_share)


def _compared(
    name: str, outcome: Outcome, words: str, comparison: PairedComparison, limit: float | None
) -> GateCheck:
    """A paired comparison as a check; `limit` is what its interval was held against, if it was."""
    if not comparison.n:
        return GateCheck(name, "undecided", "no labelled row that both answered", n=0)
    sentence = f"{words}: {_difference(comparison)} on {comparison.n:,} rows"
    numbers = (comparison.mean_difference, comparison.lower, comparison.upper)
    value, lower, upper = (number if math.isfinite(number) else None for number in numbers)
    return GateCheck(name, outcome, sentence, value, lower, upper, limit, comparison.n)


def _difference(comparison: PairedComparison) -> str:
    mean, lower, upper = comparison.mean_difference, comparison.lower, comparison.upper
    if mean < 0:
        return f"mean loss higher by {-mean:.4f} ({-upper:.4f} to {-lower:.4f})"
    return f"mean loss lower by {mean:.4f} ({lower:.4f} to {upper:.4f})"
