"""How often an alarm may be false, over the whole fleet, and what that leaves for one monitor.

The budget is stated in false alarms per quarter, since that is what a team feels. It is split evenly over
models and their monitors, and the shares may simply be added up again:

* **Ville.** A monitor that gathers evidence row by row (`clew.monitoring.risk`) is an e-process: started
  with one unit of stake a horizon, the expected number of false alarms in that horizon is at most alpha,
  however often one looks and whatever the rows depend on, as long as the mean loss *given the past* stays
  within its limit.
* **Bonferroni.** A monitor that tests windows (`clew.monitoring.drift`) divides its alpha by the number of
  its tests, so the chance that any of them is false is at most their sum.
* **Union.** Expected counts add, dependent or not. So the sum over monitors of "at most alpha each" is at
  most the budget, although columns of one table and models of one feed rise and fall together.

None of the three steps uses independence of monitors. What each test assumes of its *own* rows is said
where it is made.
"""

from __future__ import annotations

LARGEST_ALPHA = 0.01
"""However large the share of a small fleet: a page should be wrong in fewer than 1 of 100 quarters."""

DAYS_IN_QUARTER = 91


def page_alpha(false_pages_per_quarter: float, n_models: int, n_monitors: int) -> float:
    """The false pages that one paging monitor may be expected to make in a quarter.

    ``min(0.01, share * budget)`` with ``share = 1 / (n_models * n_monitors)``. It holds without independence:
    by Ville's inequality a monitor makes at most alpha false pages a quarter in expectation, and the
    expected number over all monitors is the sum of theirs (see this module).

    Parameters
    ----------
    false_pages_per_quarter
        Over the whole fleet, above 0. Higher: earlier pages, more of them false.
    n_models
        Deployments that are watched, at least 1.
    n_monitors
        Monitors of each that may page, at least 1.

    Raises
    ------
    ValueError
        If a number makes no budget.

    Examples
    --------
    Three models with two paging monitors each, then fifty:

    >>> page_alpha(1, n_models=3, n_monitors=2)
    0.01
    >>> page_alpha(1, n_models=50, n_monitors=20)
    0.001
    """
    return _share(false_pages_per_quarter, n_models, n_monitors)


def ticket_alpha(false_tickets_per_quarter: float, n_models: int, n_monitors: int = 1) -> float:
    """The chance that one ticketing monitor may give of any false ticket in a quarter.

    The same split as `page_alpha`, from a budget of its own. A monitor that tests windows divides it once
    more, by its columns and windows (Bonferroni), so it holds although columns depend on each other and
    windows overlap.

    Examples
    --------
    >>> ticket_alpha(0.2, n_models=40)
    0.005
    """
    return _share(false_tickets_per_quarter, n_models, n_monitors)


def _share(budget: float, n_models: int, n_monitors: int) -> float:
    if not 0 < budget < float("inf"):
        raise ValueError(f"the budget is {budget} false alarms a quarter; it must be above 0 and finite")
    if n_models < 1 or n_monitors < 1:
        raise ValueError(f"{n_models} models with {n_monitors} monitors each; at least 1 of both is needed")
    return min(LARGEST_ALPHA, budget / (n_models * n_monitors))
