"""Records of the prediction log for the tests: plain ones, and any that Hypothesis can think of."""

from __future__ import annotations

from hypothesis import strategies as st

from clew.storage.records import Failure, Label, Prediction, Record, Role

NOON = 1_772_366_400_000_000  # 2026-03-01 12:00 UTC
HOUR = 3_600_000_000
DAY = 24 * HOUR


def prediction(n: int, deployment: str = "busy_hour", text: str = "") -> Prediction:
    """The n-th of a series, an hour apart; all of it follows from `n`."""
    return Prediction(
        deployment=deployment,
        version=1 + n // 100,
        role="shadow" if n % 10 == 9 else "champion",
        answered_at=NOON + n * HOUR + 5,
        event_time=NOON + n * HOUR,
        key=n,
        entity=None,
        names=("temp", "weather", "holiday"),
        features=(n / 8, ["clear", "rain"][n % 2] + text, n % 7 == 0),
        predicted="busy" if n % 3 else "calm",
        probabilities=(0.25, 0.75),
        request=f"r{n}",
        microseconds=30,
        unseen=("weather",) if n % 50 == 0 else (),
    )


def failure(n: int, deployment: str = "busy_hour") -> Failure:
    return Failure(deployment, 2, "canary", NOON + n * HOUR, NOON + n * HOUR, f"k{n}", f"r{n}", "ValueError")


def label(n: int, deployment: str = "busy_hour") -> Label:
    return Label(deployment, NOON + DAY + n * HOUR, n, "busy" if n % 2 else None, "http", "ann")


def mixed(n: int) -> Record:
    """The n-th of a series in which every kind and two deployments take turns."""
    make = (prediction, failure, label)[n % 3]
    return make(n, ("busy_hour", "credit")[n // 3 % 2])


_values = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
)
_times = st.integers(NOON - 400 * DAY, NOON + 400 * DAY)
_names = st.sampled_from(["busy_hour", "credit", "büro"])
_roles: st.SearchStrategy[Role] = st.sampled_from(["champion", "canary", "shadow"])


@st.composite
def _predictions(draw: st.DrawFn) -> Prediction:
    names = draw(
        st.lists(st.sampled_from(["temp", "x.y", "", "é", "key"]) | st.text(), unique=True, max_size=4)
    )
    return Prediction(
        deployment=draw(_names),
        version=draw(st.integers(1, 5)),
        role=draw(_roles),
        answered_at=draw(_times),
        event_time=draw(_times),
        key=draw(_values),
        entity=draw(_values),
        names=tuple(names),
        features=tuple(draw(_values) for _ in names),
        predicted=draw(_values),
        probabilities=draw(st.none() | st.lists(st.floats(0, 1), max_size=3).map(tuple)),
        request=draw(st.text()),
        microseconds=draw(st.integers(0, 10**9)),
        unseen=tuple(draw(st.lists(st.text(), max_size=2))),
    )


records: st.SearchStrategy[Record] = (
    _predictions()
    | st.builds(
        Failure,
        deployment=_names,
        version=st.integers(1, 5),
        role=_roles,
        answered_at=_times,
        event_time=_times,
        key=_values,
        request=st.text(),
        error=st.text(),
    )
    | st.builds(
        Label,
        deployment=_names,
        received_at=_times,
        key=_values,
        label=_values,
        source=st.sampled_from(["http", "table"]),
        actor=st.text(),
        prediction=st.text(),
    )
)
