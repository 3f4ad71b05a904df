"""The chain of the audit log: what it catches, and what others can verify without Clew."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.config import Settings
from clew.entities import AuditEntry
from clew.errors import NotFound
from clew.registry import audit_log, record_audit
from clew.registry.audit import audit_entry
from clew.registry.audit_bundle import export_audit
from clew.registry.audit_check import ChainCheck, check_chain, verify_audit
from clew.storage import Store, open_store
from clew.storage.chain import NOTHING_BEFORE, Head, canonical, hash_of, linked, read_head
from clew.storage.tables import metadata
from clew.storage.versions import MIGRATIONS, bring_up_to_date, run_migrations

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
N_ROWS = 8

ROW: dict[str, Any] = {
    "at": NOW,
    "actor": "ada",
    "action": "pause",
    "subject": "churn",
    "reason": "Ferien, für eine Woche",
    "evidence": {"share": 0.1, "n": 3, "none": None, "list": (1, 2.0, 1e16)},
}


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    with open_store(Settings(root=tmp_path, store=tmp_path / ".clew", database=url), now=NOW) as store:
        yield store


def fill(store: Store, n_rows: int = N_ROWS) -> None:
    for n in range(n_rows):
        with store.write() as tx:
            record_audit(
                tx,
                now=NOW + timedelta(hours=n),
                actor=["ada", "loop"][n % 2],
                action="pause",
                subject=["churn", "fraud"][n % 2],
                reason=f"reason {n}\0é",
                evidence={"n": n, "share": 0.1 * n, "level": float("nan")},
            )


def sql(store: Store, *statements: str) -> None:
    """What somebody does who has the database's password."""
    with store.database.connection("write") as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def found(check: ChainCheck) -> list[tuple[int, str]]:
    return [(fault.sequence, fault.kind) for fault in check.faults]


# -- the chain -----------------------------------------------------------------------------------------


def test_the_hash_of_a_row_never_changes_its_meaning() -> None:
    first = linked(ROW, Head(0, NOTHING_BEFORE))
    zeros = b"0" * 64
    assert canonical(first) == (
        b'{"action":"pause","actor":"ada","at":"2026-03-01T12:00:00.000000Z","before":"' + zeros + b'",'
        b'"evidence":{"list":[1,2.0,1e+16],"n":3,"none":null,"share":0.1},'
        b'"reason":"Ferien, f\\u00fcr eine Woche","sequence":1,"subject":"churn"}'
    )
    assert first["hash"] == "69d9619fd69cbb14b3df0cb8f42fe961fe0be785cecc5bc2d139c178a0b2ba6b"
    second = linked(ROW, Head(1, first["hash"]))
    assert second["hash"] == "05f3fd8df90b883b4b555c4f2599bd15ecb435116c5d3d3a4457d92d1d333306"


def test_a_log_that_nobody_touched_is_what_was_written(store: Store) -> None:
    assert verify_audit(store) == ChainCheck(0, 0, NOTHING_BEFORE, None, ())
    fill(store)
    check = verify_audit(store)
    entries = audit_log(store)
    assert (check.n_rows, check.newest, check.head, check.faults) == (N_ROWS, N_ROWS, entries[0].hash, ())
    assert [entry.before for entry in entries] == [*(entry.hash for entry in entries[1:]), NOTHING_BEFORE]


def test_a_change_that_is_taken_back_takes_its_row_along(store: Store) -> None:
    fill(store, 2)
    with suppress(KeyError), store.write() as tx:
        record_audit(tx, now=NOW, actor="a", action="b", subject="c", reason="d")
        raise KeyError
    fill(store, 1)
    assert [entry.sequence for entry in audit_log(store)] == [3, 2, 1]
    assert verify_audit(store).faults == ()


SWAP = (
    "UPDATE audit SET sequence = 100 WHERE sequence = 3",
    "UPDATE audit SET sequence = 3 WHERE sequence = 4",
    "UPDATE audit SET sequence = 4 WHERE sequence = 100",
)


@pytest.mark.parametrize(
    ("statements", "faults"),
    [
        (["UPDATE audit SET reason = 'harmless' WHERE sequence = 3"], [(3, "changed")]),
        (["UPDATE audit SET actor = 'eve' WHERE sequence = 8"], [(8, "changed")]),
        (["""UPDATE audit SET evidence = '{"n":0}' WHERE sequence = 5"""], [(5, "changed")]),
        (["UPDATE audit SET evidence = 'no json' WHERE sequence = 5"], [(5, "changed")]),
        (["UPDATE audit SET before = hash WHERE sequence = 5"], [(5, "changed")]),
        (["DELETE FROM audit WHERE sequence = 1"], [(1, "missing")]),
        (["DELETE FROM audit WHERE sequence IN (4, 5)"], [(4, "missing")]),
        (["DELETE FROM audit WHERE sequence >= 7"], [(7, "missing")]),
        (["DELETE FROM audit"], [(1, "missing")]),
        (SWAP, [(3, "moved"), (4, "moved")]),
        (
            ["DELETE FROM audit WHERE sequence = 7", "UPDATE audit SET sequence = 7 WHERE sequence = 8"],
            [(7, "changed"), (8, "missing")],
        ),
    ],
)
def test_whatever_is_done_to_the_rows_is_named(
    store: Store, statements: list[str], faults: list[tuple[int, str]]
) -> None:
    fill(store)
    sql(store, *statements)
    assert found(verify_audit(store)) == faults


def test_a_row_that_was_given_its_new_hash_is_named_too(store: Store) -> None:
    for sequence in (3, 8):
        fill(store, N_ROWS - verify_audit(store).newest)
        rewrite(store, sequence)
        assert (sequence, "changed") in found(verify_audit(store))


def rewrite(store: Store, first: int, last: int | None = None) -> None:
    """Change a row, and give it and those up to `last` the hashes that belong to that."""
    with store.write() as tx:
        before = None
        for row in tx.find("audit", {"sequence": list(range(first, (last or first) + 1))}):
            forged = row | {"reason": "forged"} | ({} if before is None else {"before": before})
            before = hash_of(forged)
            tx.update("audit", {"sequence": row["sequence"]}, forged | {"hash": before})


def test_a_row_that_was_put_in_behind_the_newest_is_named(store: Store) -> None:
    fill(store)
    with store.write() as tx:
        tx.insert("audit", linked(ROW, read_head(tx)))
    assert found(verify_audit(store)) == [(N_ROWS + 1, "put in")]


def test_only_a_checkpoint_shows_a_log_that_was_written_anew(store: Store) -> None:
    fill(store)
    checkpoint = audit_entry(store, 6).hash
    assert verify_audit(store, checkpoint).checkpoint == 6
    rewrite(store, 3, N_ROWS)
    newest = audit_entry(store, N_ROWS).hash
    with store.write() as tx:
        tx.update("meta", {"key": "audit_head"}, {"value": f"{N_ROWS} {newest}"})
    assert verify_audit(store).faults == ()
    check = verify_audit(store, checkpoint)
    assert (check.checkpoint, found(check)) == (None, [(0, "checkpoint")])


def chain(reasons: list[str]) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    head = Head(0, NOTHING_BEFORE)
    for reason in reasons:
        row = linked(ROW | {"reason": reason}, head)
        head = Head(row["sequence"], row["hash"])
        entries.append(AuditEntry(**row))
    return entries


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(reasons=st.lists(st.text(), min_size=1, max_size=12), data=st.data())
def test_every_single_change_is_found_and_none_is_made_up(reasons: list[str], data: st.DataObject) -> None:
    entries = chain(reasons)
    head = Head(len(entries), entries[-1].hash)
    assert check_chain(entries, head).faults == ()
    at = data.draw(st.integers(0, len(entries) - 1))
    assert (at + 1, "missing") in found(check_chain(entries[:at] + entries[at + 1 :], head))
    other = AuditEntry(**linked(ROW | {"actor": "eve"}, Head(at, entries[at].before)))
    assert (at + 1, "changed") in found(check_chain([*entries[:at], other, *entries[at + 1 :]], head))


def test_a_store_of_an_older_clew_is_chained_when_it_is_migrated(store: Store, tmp_path: Path) -> None:
    with store.database.connection("write") as connection:
        metadata.drop_all(connection)
        run_migrations(connection, MIGRATIONS, 0, 2)
    old = (
        "INSERT INTO audit (sequence, at, actor, action, subject, reason, evidence)"
        " VALUES ({}, '2025-01-01T00:00:00.000000Z', 'ada', 'pause', 'churn', {}, {})"
    )
    sql(
        store,
        old.format(1, "'first'", """'{"n":1}'"""),
        old.format(2, "NULL", "NULL"),
        old.format(4, "'a number of PostgreSQL''s was lost'", """'{"share":0.1,"word":"é"}'"""),
        "INSERT INTO meta VALUES ('store_version', '2'), ('written_by', 'an old one')",
    )
    bring_up_to_date(store.database, tmp_path / "backups", NOW)
    check = verify_audit(store)
    assert (check.n_rows, check.newest, check.faults) == (3, 4, ())
    fill(store, 2)
    assert (verify_audit(store).newest, verify_audit(store).faults) == (6, ())
    sql(store, "DELETE FROM audit WHERE sequence = 2")
    assert found(verify_audit(store)) == [(2, "missing")]


# -- looking -------------------------------------------------------------------------------------------


def test_the_log_is_searched_by_subject_actor_action_and_time(store: Store) -> None:
    fill(store)

    def numbers(**given: Any) -> list[int]:
        return [entry.sequence for entry in audit_log(store, **given)]

    assert numbers(subject="churn") == [7, 5, 3, 1]
    assert numbers(actor="loop", limit=2) == [8, 6]
    assert numbers(action="resume") == []
    assert numbers(since=NOW + timedelta(hours=5)) == [8, 7, 6]
    assert numbers(until=NOW + timedelta(hours=2)) == [2, 1]
    assert numbers(since=NOW + timedelta(hours=1), until=NOW + timedelta(hours=6), limit=1) == [6]
    with pytest.raises(NotFound, match="no row 9; they go up to 8"):
        audit_entry(store, 9)


# -- a bundle for others -------------------------------------------------------------------------------


def unpacked(bundle: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(folder)
    return folder


def verdict(folder: Path, *words: str) -> tuple[int, str]:
    """What the script says in a Python that has nothing but its standard library."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(folder / "verify.py"), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


def test_a_third_party_can_verify_a_bundle_without_clew(store: Store, tmp_path: Path) -> None:
    fill(store)
    bundle = export_audit(store, tmp_path / "audit.zip", 3, 6)
    assert (bundle.n_rows, bundle.first, bundle.last) == (4, 3, 6)
    assert (bundle.before, bundle.after) == (audit_entry(store, 2).hash, audit_entry(store, 6).hash)
    folder = unpacked(tmp_path / "audit.zip", tmp_path / "bundle")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.txt",
        "chain.json",
        "rows.jsonl",
        "verify.py",
    ]
    assert len((folder / "verify.py").read_text().splitlines()) < 50
    assert "python verify.py" in (folder / "README.txt").read_text()
    assert verdict(folder) == (0, "every row is what was written")
    assert verdict(folder, audit_entry(store, 5).hash)[0] == 0
    assert verdict(folder, audit_entry(store, 7).hash)[0] == 3


def change_a_row(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b"loop", b"ada"), *lines[2:]]


def make_all_anew(lines: list[bytes]) -> list[bytes]:
    rows = [json.loads(line) for line in lines]
    anew: list[bytes] = []
    for row in rows:
        if anew:
            row["before"] = hash_of_line(anew[-1])
        anew.append(json.dumps(row | {"reason": "forged"}, sort_keys=True, separators=(",", ":")).encode())
    return anew


def hash_of_line(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (change_a_row, "row 2 is not what row 3 was written behind"),
        (lambda lines: [lines[0], *lines[2:]], "row 1 is not what row 3 was written behind"),
        (lambda lines: lines[:-1], "there are 7 rows and not 8"),
        (
            lambda lines: [lines[1], lines[0], *lines[2:]],
            "the hash before the first row is not what row 2 was written",
        ),
        (make_all_anew, "the newest row has the hash"),
    ],
)
def test_a_forged_bundle_is_noticed(
    store: Store, tmp_path: Path, forge: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    fill(store)
    export_audit(store, tmp_path / "audit.zip")
    folder = unpacked(tmp_path / "audit.zip", tmp_path / "bundle")
    rows = folder / "rows.jsonl"
    rows.write_bytes(b"".join(line + b"\n" for line in forge(rows.read_bytes().splitlines())))
    code, told = verdict(folder)
    assert code == 3
    assert said in told


def test_a_bundle_that_was_made_anew_as_a_whole_has_no_hash_that_was_written_down(
    store: Store, tmp_path: Path
) -> None:
    fill(store)
    bundle = export_audit(store, tmp_path / "audit.zip")
    folder = unpacked(tmp_path / "audit.zip", tmp_path / "bundle")
    anew = make_all_anew((folder / "rows.jsonl").read_bytes().splitlines())
    (folder / "rows.jsonl").write_bytes(b"".join(line + b"\n" for line in anew))
    said = json.loads((folder / "chain.json").read_text()) | {"after": hash_of_line(anew[-1])}
    (folder / "chain.json").write_text(json.dumps(said))
    assert verdict(folder)[0] == 0
    assert verdict(folder, bundle.after) == (3, f"no row has the hash {bundle.after}")


def test_a_stretch_is_chosen_by_numbers_or_times_and_has_no_holes(store: Store, tmp_path: Path) -> None:
    fill(store)
    path = tmp_path / "audit.zip"
    by_time = export_audit(store, path, NOW + timedelta(hours=2), NOW + timedelta(hours=5))
    assert (by_time.first, by_time.last) == (3, 5)
    first = path.read_bytes()
    assert export_audit(store, path, 3, 5) == by_time
    assert path.read_bytes() == first
    with pytest.raises(NotFound, match="nothing was written"):
        export_audit(store, tmp_path / "none.zip", 9)
    assert not (tmp_path / "none.zip").exists()


def test_many_processes_write_one_chain(tmp_path: Path) -> None:
    where = Settings(root=tmp_path, store=tmp_path / ".clew")
    code = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from clew.config import Settings
from clew.registry import record_audit
from clew.storage import open_store
now = datetime(2026, 3, 1, 12, tzinfo=UTC)
with open_store(Settings(root=Path(sys.argv[1]), store=Path(sys.argv[1]) / ".clew"), now=now) as store:
    for n in range(25):
        with store.write() as tx:
            record_audit(tx, now=now, actor=sys.argv[2], action="a", subject="s", reason="r")
"""
    with open_store(where, now=NOW) as store:
        children = [
            subprocess.Popen([sys.executable, "-c", code, str(tmp_path), who]) for who in ("left", "right")
        ]
        assert [child.wait(60) for child in children] == [0, 0]
        check = verify_audit(store)
    assert (check.n_rows, check.newest, check.faults) == (50, 50, ())
    with closing(sqlite3.connect(tmp_path / ".clew" / "clew.sqlite")) as raw:
        assert raw.execute("SELECT count(DISTINCT actor) FROM audit").fetchone() == (2,)
