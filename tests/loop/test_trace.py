from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.config import Settings
from clew.errors import NotFound
from clew.loop.result import ThreadNode
from clew.loop.trace import trace
from clew.registry import move_alias
from clew.storage import Store, link, open_store
from tests.loop.made import NOW
from tests.loop.threads import Laid, lay


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Laid]]:
    """A store that the tests below only read, or add to what no other asks for."""
    root = tmp_path_factory.mktemp("bikes")
    with open_store(Settings(root=root, store=root / ".clew"), now=NOW) as store:
        yield store, lay(store, root)


@pytest.fixture
def laid(shared: tuple[Store, Laid]) -> Laid:
    return shared[1]


@pytest.fixture
def store(shared: tuple[Store, Laid]) -> Store:
    return shared[0]


def refusal(store: Store, reference: str) -> str:
    with pytest.raises(NotFound) as caught:
        trace(store, reference)
    return str(caught.value)


def kinds(node: ThreadNode) -> list[str]:
    return [node.kind, *(kind for cause in node.causes for kind in kinds(cause))]


# -- the thread ----------------------------------------------------------------------------------------


def test_a_version_leads_back_to_rows_code_and_environment(store: Store, laid: Laid) -> None:
    thread = trace(store, "busy_hour@1")
    (run,) = thread.causes
    assert (thread.id, run.kind, run.id) == ("busy_hour@1", "run", laid.runs[0])
    found = {cause.kind: cause.id for cause in run.causes}
    assert found == {"snapshot": laid.snapshot, "code": laid.code, "environment": laid.environment}


def test_a_version_in_office_leads_to_the_decision_and_all_that_it_knew(store: Store, laid: Laid) -> None:
    thread = trace(store, "backtest-1f@1")
    by_kind = {cause.kind: cause for cause in thread.causes}
    assert by_kind["decision"].id == laid.decision
    assert [cause.id for cause in by_kind["decision"].causes] == [laid.runs[0]]


def test_each_record_is_told_in_a_sentence(store: Store, laid: Laid) -> None:
    sentences = {
        "busy_hour@1": "version 1 of busy_hour, a lightgbm package (accuracy 0.9)",
        laid.runs[0]: "try of busy_hour: finished in 1.25 s, rows 0 to 1,000 and 1,200 to 2,000, seed 7",
        laid.snapshot: "2,400 rows of rides, 2026-01-01 to 2026-04-10, from rides.parquet",
        laid.code: "1 file of code, no git commit",
        laid.environment: "packages, Python and machine it ran on",
        laid.decision: "2026-03-04 promoted: promoted number 3",
        laid.finding: "2026-03-01 page: accuracy fell to 0.700",
    }
    assert {reference: trace(store, reference).sentence for reference in sentences} == sentences


def test_each_record_carries_its_facts(store: Store, laid: Laid) -> None:
    version, run = trace(store, "busy_hour@1").facts, trace(store, laid.runs[0]).facts
    assert version["gate"] == {"leakage": "pass", "minimum accuracy": "undecided"}
    assert version["metrics"] == {"accuracy": 0.9}
    assert run["params"] == {"num_leaves": "63 (clew.toml)"}
    assert trace(store, laid.finding).facts == {"method": "e-detector", "n": 120}
    assert trace(store, laid.decision).facts == {"evidence": {"version": 1, "why": "repair"}}
    assert "warmth double" in trace(store, laid.snapshot).facts["columns"]


# -- names ---------------------------------------------------------------------------------------------


def test_a_model_s_name_means_its_newest_version(store: Store) -> None:
    assert trace(store, "busy_hour").id == "busy_hour@2"


def test_a_whole_name_goes_before_the_decisions_whose_ids_begin_with_it(store: Store) -> None:
    assert trace(store, "backtest-1f").id == "backtest-1f@1"


def test_a_version_is_the_same_with_zeros_before_it(store: Store) -> None:
    assert trace(store, "busy_hour@01") == trace(store, "busy_hour@1")


@pytest.mark.parametrize("what", ["snapshot", "code", "environment", "finding"])
def test_the_beginning_of_an_id_is_enough(store: Store, laid: Laid, what: str) -> None:
    identity = getattr(laid, what)
    found = trace(store, identity[:12])
    assert (found.kind, found.id) == (what, identity)
    assert trace(store, identity) == found


def test_an_alias_means_the_version_it_points_to(store: Store) -> None:
    move_alias(store, "busy_hour", "champion", 1, expected=None, actor="person", reason="better", now=NOW)
    thread = trace(store, "busy_hour@champion")
    assert (thread.id, thread.facts["aliases"]) == ("busy_hour@1", ["champion since 2026-03-01 12:00"])


def test_an_alias_that_points_nowhere_is_no_version(store: Store) -> None:
    about = {"actor": "person", "reason": "try it", "now": NOW}
    move_alias(store, "busy_hour", "challenger", 2, expected=None, **about)  # type: ignore[arg-type]
    move_alias(store, "busy_hour", "challenger", None, expected=2, **about)  # type: ignore[arg-type]
    assert "has no version 'challenger'; it has versions 1, 2" in refusal(store, "busy_hour@challenger")


@pytest.mark.parametrize("number", ["9", "²", "-1", "", "newest"])
def test_a_version_that_does_not_exist_is_answered_with_those_that_do(store: Store, number: str) -> None:
    said = refusal(store, f"busy_hour@{number}")
    assert f"'busy_hour' has no version {number!r}; it has versions 1, 2" in said
    assert "clew models list" in said


def test_a_version_of_no_model_is_said_to_have_none(store: Store) -> None:
    assert "There is no model 'nobody' with a version. Known: busy_hour." in refusal(store, "nobody@1")


def test_what_has_no_such_name_is_told_where_to_look(store: Store) -> None:
    said = refusal(store, "nothing")
    assert said.startswith("No run, version, snapshot, decision or finding is named 'nothing'.")
    assert "clew runs list, clew models list, clew data list" in said


def test_a_beginning_that_several_ids_share_is_answered_with_them(store: Store) -> None:
    said = refusal(store, "backtest-1f/")
    assert said.startswith(
        "'backtest-1f/' may be several things: decision backtest-1f/00001, decision backtest-1f/00002"
    )
    assert said.endswith("Give more of the id.")


# -- odd threads ---------------------------------------------------------------------------------------


def test_a_thread_that_leads_back_to_itself_ends(store: Store, laid: Laid) -> None:
    with store.write() as tx:
        link(tx, "finding", laid.finding, "follows", "decision", "backtest-1f/00001")
    assert kinds(trace(store, "backtest-1f/00001")) == ["decision", "finding"]
    assert kinds(trace(store, laid.finding)) == ["finding", "decision"]


def test_a_cause_of_a_kind_that_has_no_thread_is_left_out(store: Store) -> None:
    with store.write() as tx:
        link(tx, "decision", "backtest-1f/00002", "was told to", "person", "ada")
    assert trace(store, "backtest-1f/00002").causes == ()


def test_a_cause_that_is_gone_is_named(tmp_path: Path) -> None:
    with open_store(Settings(root=tmp_path, store=tmp_path / ".clew"), now=NOW) as store:
        laid = lay(store, tmp_path)
        with store.write() as tx:
            tx.delete("environments", {"id": laid.environment})
        said = refusal(store, laid.runs[0])
    assert (
        said == f"The environment {laid.environment!r} is named by another record, but is not in this store."
    )
