from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.loop.standing import (
    Contestant,
    FittedModel,
    Pieces,
    Scored,
    Segment,
    evidence_ratio,
    fresh_evidence,
    n_new_rows,
    newest_pieces,
    upper_level,
)
from clew.stats.betting import paired_betting
from tests.loop.made import policy

N_ROWS = 400


def ordinals(pieces: Pieces) -> list[int]:
    return [row for start, end in pieces for row in range(start, end)]


def runs(most: int = 300) -> st.SearchStrategy[tuple[int, int]]:
    ends = st.tuples(st.integers(0, most), st.integers(0, most))
    return ends.map(lambda pair: (min(pair), max(pair)))


def disjoint_pieces() -> st.SearchStrategy[Pieces]:
    def paired(edges: set[int]) -> Pieces:
        ordered = sorted(edges)
        return tuple(zip(ordered[::2], ordered[1::2], strict=False))

    return st.sets(st.integers(0, 300), max_size=12).map(paired)


# -- which rows to learn from --------------------------------------------------------------------------


@given(st.integers(0, 300), st.integers(0, 400), st.lists(runs(), max_size=5))
def test_the_newest_pieces_are_the_newest_rows_outside_of_quarantine(
    matured: int, length: int, quarantined: list[tuple[int, int]]
) -> None:
    bad = set(ordinals(tuple(quarantined)))
    healthy = [row for row in range(matured) if row not in bad]
    expected = healthy[len(healthy) - min(length, len(healthy)) :]
    assert ordinals(newest_pieces(matured, length, quarantined)) == expected


@given(st.integers(0, 300), st.lists(runs(), max_size=5))
def test_all_history_is_every_row_outside_of_quarantine(
    matured: int, quarantined: list[tuple[int, int]]
) -> None:
    bad = set(ordinals(tuple(quarantined)))
    assert ordinals(newest_pieces(matured, math.inf, quarantined)) == [
        r for r in range(matured) if r not in bad
    ]


@given(st.integers(0, 300), st.floats(0.01, 400), st.lists(runs(), max_size=5))
def test_a_broken_number_of_rows_is_rounded_down(
    matured: int, length: float, quarantined: list[tuple[int, int]]
) -> None:
    assert newest_pieces(matured, length, quarantined) == newest_pieces(matured, int(length), quarantined)


@given(disjoint_pieces(), disjoint_pieces())
def test_new_rows_are_those_that_were_not_learned_from_before(pieces: Pieces, old: Pieces) -> None:
    assert n_new_rows(pieces, old) == len(set(ordinals(pieces)) - set(ordinals(old)))


def test_a_model_counts_the_rows_of_all_its_pieces() -> None:
    assert FittedModel("m", "r", ((0, 10), (20, 25)), 30).n_rows == 15


# -- what a contestant has shown -----------------------------------------------------------------------


class Notes:
    """A scorer whose loss is the fit's own number, and that notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []

    def scored(self, model: FittedModel, start: int, end: int) -> Scored:
        self.asked.append((model.name, start, end))
        losses = np.full(end - start, int(model.name) / 10)
        return Scored(losses, losses, losses == 0, losses)


def contestant(*first_rows: int) -> Contestant:
    """One whose fits, named 0, 1, …, may answer rows from these on."""
    fits = [FittedModel(str(n), f"run {n}", ((0, row),), row) for n, row in enumerate(first_rows)]
    losses = np.full(N_ROWS, np.nan)
    return Contestant("newest 1W", "recipe", fresh_evidence(policy()), losses, 1.0, fits)


chains = st.lists(st.integers(0, N_ROWS), min_size=1, max_size=5).map(sorted)
steps = st.lists(st.integers(0, 90), min_size=1, max_size=6)


@given(chains, steps)
def test_each_row_is_answered_by_the_newest_fit_made_before_it(
    first_rows: list[int], lengths: list[int]
) -> None:
    chain, scorer, seen = contestant(*first_rows), Notes(), 0
    for length in lengths:
        end = min(N_ROWS, seen + length)
        if seen < end:
            chain.score(seen, end, scorer)
        seen = end
    for row in range(seen):
        made = [n for n, first_row in enumerate(first_rows) if first_row <= row]
        expected = made[-1] / 10 if made else math.nan
        assert chain.losses[row] == expected or (math.isnan(chain.losses[row]) and not made)
    assert np.isnan(chain.losses[seen:]).all()


@given(chains, steps)
def test_no_row_is_answered_twice(first_rows: list[int], lengths: list[int]) -> None:
    chain, scorer, seen = contestant(*first_rows), Notes(), 0
    for length in lengths:
        end = min(N_ROWS, seen + length)
        if seen < end:
            chain.score(seen, end, scorer)
        seen = end
    rows = [row for _, start, end in scorer.asked for row in range(start, end)]
    assert len(rows) == len(set(rows))
    assert [(s.model.name, s.start, s.end) for s in chain.segments] == scorer.asked


def test_fits_that_newer_ones_have_replaced_are_let_go() -> None:
    chain = contestant(0, 50, 120)
    chain.score(0, 100, Notes())
    assert [fit.name for fit in chain.fits] == ["1", "2"]
    assert chain.model.name == "2"


def test_evidence_counts_only_rows_that_both_have_answered() -> None:
    chain, champion = contestant(100), np.full(N_ROWS, 1.0)
    champion[150:160] = np.nan
    chain.score(0, 200, Notes())
    chain.bet_against(champion, 0, 200)
    assert chain.n_scored == chain.evidence.n_rows == 90


def test_evidence_grows_when_the_contestant_loses_less_and_shrinks_when_it_loses_more() -> None:
    better, worse = contestant(0), contestant(0)
    for chain, loss in ((better, 0.4), (worse, 0.0)):
        chain.losses[:], champion = 0.2, np.full(N_ROWS, loss)
        chain.bet_against(champion, 0, N_ROWS)
    assert evidence_ratio(better.evidence) > 100
    assert evidence_ratio(worse.evidence) < 1


def test_before_a_new_champion_evidence_begins_again() -> None:
    chain = contestant(0)
    chain.score(0, 100, Notes())
    chain.bet_against(np.full(N_ROWS, 1.0), 0, 100)
    chain.begin_again(policy())
    assert (chain.n_scored, chain.evidence) == (0, fresh_evidence(policy()))
    assert not np.isnan(chain.losses[:100]).any()


def test_what_was_answered_in_a_stretch_is_cut_to_it() -> None:
    chain = contestant(0, 50)
    chain.score(0, 100, Notes())
    old, new = (segment.model for segment in chain.segments)
    assert chain.answered(30, 60) == (Segment(30, 50, old), Segment(50, 60, new))
    assert chain.answered(100, 200) == ()


# -- numbers -------------------------------------------------------------------------------------------


def test_evidence_is_told_as_a_ratio_and_capped() -> None:
    nothing = paired_betting(100)
    assert evidence_ratio(nothing) == 0
    certain, _ = nothing.extended(np.ones(1000))
    assert evidence_ratio(certain) == pytest.approx(1e6)


def test_without_rows_nothing_is_known_of_a_level() -> None:
    assert upper_level(np.empty(0)) == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_the_upper_level_lies_above_the_mean_and_within_the_range(losses: list[float]) -> None:
    level = upper_level(np.array(losses))
    assert min(float(np.mean(losses)), 1.0) - 1e-9 <= level <= 1


def test_the_upper_level_holds_for_nearly_all_samples_of_a_known_level() -> None:
    samples = np.random.default_rng(0).random((1000, 300)) < 0.15
    n_below = sum(upper_level(sample.astype(float)) < 0.15 for sample in samples)
    assert n_below <= 20  # 1 % are expected; 20 or more of 1,000 would come by chance once in 400 times
