"""The thread: from any record back to what it came from, and forward to what came of it.

Rooms write edges as they work (a run *used* a snapshot, a version was *made by* a run, a decision *rests on*
findings). Here they are walked, and each record is put into a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from clew.entities import Json
from clew.errors import NotFound, did_you_mean
from clew.loop.prediction_thread import answers_node, is_prediction_id, prediction_node
from clew.loop.result import ThreadNode
from clew.storage import Reader, Store, Where
from clew.tracking.opened_files import opened_file
from clew.tracking.submodules import Submodule

SHORT = 12
"""Characters of an id that people read and type."""

Row = Mapping[str, Any]


def trace(store: Store, reference: str) -> ThreadNode:
    """The thread that begins at a record.

    Parameters
    ----------
    reference
        A version (``busy_hour@3``), a model's name (its newest version), a prediction's id, or the id, or
        the beginning of the id, of a run, snapshot, decision, finding, captured code or environment.

    Raises
    ------
    NotFound
        When nothing has that name, or several things do.
    """
    if is_prediction_id(reference):
        return prediction_node(store, reference, trace)
    with store.read() as reader:
        kind, identity = _resolve(reader, reference)
        return _node(reader, kind, identity, seen=frozenset())


def touched(store: Store, reference: str) -> ThreadNode:
    """The thread forward: what was made from a record, and from that, down to the answers that were given.

    Parameters
    ----------
    reference
        As for `trace`; a prediction has nothing that came of it.

    Raises
    ------
    NotFound
        When nothing has that name, or several things do.
    """
    if is_prediction_id(reference):
        raise NotFound(
            f"{reference} is an answer, and nothing is made from answers. See: clew trace {reference}"
        )
    with store.read() as reader:
        kind, identity = _resolve(reader, reference)
        return _effect(store, reader, kind, identity, seen=frozenset())


def _effect(
    store: Store, reader: Reader, kind: str, identity: str, seen: frozenset[tuple[str, str]]
) -> ThreadNode:
    sentence, facts = _TOLD[kind](reader, identity)
    here = seen | {(kind, identity)}
    edges = reader.find("edges", {"to_kind": kind, "to_id": identity}, ["relation", "from_kind", "from_id"])
    # Each decision names who was champion when it was taken; that it came of that one is not said with it.
    next_ones = [(e["from_kind"], e["from_id"]) for e in edges if e["relation"] != "champion was"]
    effects = [_effect(store, reader, *each, here) for each in next_ones if each not in here]
    if kind == "version":
        effects += _served(store, reader, identity)
    return ThreadNode(kind, identity, sentence, facts, effects=tuple(effects))


def _served(store: Store, reader: Reader, version: str) -> list[ThreadNode]:
    """Who answered with a version, and what callers had of it."""
    deployment = version.rpartition("@")[0]
    known = reader.get("deployments", name=deployment)
    told = [] if known is None else [ThreadNode("deployment", deployment, *_tell_deployment(reader, known))]
    answers = answers_node(store, reader, version)
    return told if answers is None else [*told, answers]


def _resolve(reader: Reader, reference: str) -> tuple[str, str]:
    if "@" in reference:
        return "version", version_name(reader, reference)
    newest = newest_version(reader, reference)
    if newest is not None:
        # A whole name goes before ids that begin like it, such as those of a backtest's decisions.
        return "version", newest
    found = [(kind, identity) for kind, look in _LOOK_UP.items() for identity in look(reader, reference)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(
            f"No run, version, snapshot, decision or finding is named {reference!r}. See: clew runs list,"
            " clew models list, clew data list"
        )
    named = ", ".join(f"{kind} {identity[:40]}" for kind, identity in found[:5])
    raise NotFound(f"{reference!r} may be several things: {named}. Give more of the id.")


def version_name(reader: Reader, reference: str) -> str:
    """``busy_hour@3`` for that or for an alias such as ``busy_hour@champion``.

    Raises
    ------
    NotFound
        Naming the versions that exist.
    """
    deployment, _, number = reference.partition("@")
    alias = reader.get("aliases", deployment=deployment, alias=number)
    wanted = alias["number"] if alias is not None else number
    known = [row["number"] for row in reader.find("versions", {"deployment": deployment}, ["number"])]
    if not str(wanted).isdecimal() or int(wanted) not in known:
        raise NotFound(_no_version(reader, deployment, number, known))
    return f"{deployment}@{int(wanted)}"


def _no_version(reader: Reader, deployment: str, number: str, known: list[int]) -> str:
    if not known:
        live = {row["name"] for row in reader.find("deployments", {"kind": "live"})}
        names = sorted({row["deployment"] for row in reader.find("versions")} & live)
        there = did_you_mean(deployment, names) if names else "Train one with: clew try"
        return f"There is no model {deployment!r} with a version. {there}"
    there = f"it has versions {', '.join(map(str, known))}"
    if number == "champion":
        return (
            f"{deployment!r} has no champion yet; {there}. Name one, such as '{deployment}@{known[-1]}', or"
            " make a champion with: clew up"
        )
    return f"{deployment!r} has no version {number!r}; {there}. See: clew models list"


def newest_version(reader: Reader, name: str) -> str | None:
    """``busy_hour@3`` for the model's name, when that is its newest; None without versions."""
    newest = reader.find("versions", {"deployment": name}, ["-number"], limit=1)
    return f"{name}@{newest[0]['number']}" if newest else None


def _by_prefix(table: str) -> Callable[[Reader, str], list[str]]:
    def look(reader: Reader, reference: str) -> list[str]:
        exact = reader.find(table, {"id": reference}, limit=1)
        rows = exact or reader.find(table, {"id": Where("prefix", reference)}, limit=3)
        return sorted({row["id"] for row in rows})

    return look


def _files(reader: Reader, reference: str) -> list[str]:
    """Files that trainings read, by path or by the beginning of their hash."""
    known = {row["to_id"] for row in reader.find("edges", {"to_kind": "file"})}
    return sorted(each for each in known if each.startswith(reference) or each.endswith(f" {reference}"))


_LOOK_UP: dict[str, Callable[[Reader, str], list[str]]] = {
    "run": _by_prefix("runs"),
    "snapshot": _by_prefix("snapshots"),
    "folder": _by_prefix("folder_snapshots"),
    "decision": _by_prefix("decisions"),
    "finding": _by_prefix("findings"),
    "code": _by_prefix("code_trees"),
    "environment": _by_prefix("environments"),
    "batch": _by_prefix("batches"),
    "file": _files,
}


def _node(reader: Reader, kind: str, identity: str, seen: frozenset[tuple[str, str]]) -> ThreadNode:
    sentence, facts = _TOLD[kind](reader, identity)
    here = seen | {(kind, identity)}
    edges = reader.find("edges", {"from_kind": kind, "from_id": identity}, ["relation", "to_kind", "to_id"])
    next_ones = [(edge["to_kind"], edge["to_id"]) for edge in edges]
    causes = [_node(reader, *each, here) for each in next_ones if each not in here and each[0] in _TOLD]
    return ThreadNode(kind, identity, sentence, facts, tuple(causes))


# -- records in a sentence -----------------------------------------------------------------------------


def _tell_version(reader: Reader, identity: str) -> tuple[str, Json]:
    deployment, _, number = identity.rpartition("@")
    row = _known(reader.get("versions", deployment=deployment, number=int(number)), "version", identity)
    moves = [
        f"{alias['alias']} since {alias['moved_at']:%Y-%m-%d %H:%M}"
        for alias in reader.find("aliases", {"deployment": deployment, "number": int(number)})
    ]
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in (row["metrics"] or {}).items())
    sentence = f"version {number} of {deployment}, a {row['flavor']} package" + (
        f" ({metrics})" if metrics else ""
    )
    gate = {check["name"]: check["outcome"] for check in (row["gate"] or {}).get("checks", [])}
    facts = {"package": row["package"], "metrics": row["metrics"], "aliases": moves, "gate": gate}
    return sentence, facts


def _tell_deployment(reader: Reader, row: Row) -> tuple[str, Json]:
    champion = reader.get("aliases", deployment=row["name"], alias="champion")
    if row["kind"] != "live":
        sentence = f"{row['kind']} of {row['model']}, which answered no caller"
    elif champion is None or champion["number"] is None:
        sentence = "answers no caller: it has no champion"
    else:
        since = f"{champion['moved_at']:%Y-%m-%d %H:%M}"
        sentence = f"answers callers with version {champion['number']} since {since}"
    return sentence, {"created_at": row["created_at"].isoformat(), "threshold": row["threshold"]}


def _tell_run(reader: Reader, identity: str) -> tuple[str, Json]:
    row = _known(reader.get("runs", id=identity), "run", identity)
    if row["purpose"] == "import":
        given = {name: param["value"] for name, param in row["params"].items()}
        sentence = (
            f"training unknown: imported from {given['source']} (sha256 {given['sha256'][:SHORT]}…) by"
            f" {given['by']}"
        )
        return sentence, given | {"started_at": row["started_at"].isoformat(), "error": row["error"]}
    took = "" if row["seconds"] is None else f" in {row['seconds']:.2f} s"
    rows = " and ".join(f"{start:,} to {end:,}" for start, end in row["rows"])
    sentence = f"{row['purpose']} of {row['model']}: {row['status']}{took}, rows {rows}, seed {row['seed']}"
    facts = {
        "params": {name: f"{p['value']} ({p['source']})" for name, p in row["params"].items()},
        "started_at": row["started_at"].isoformat(),
        "metrics": row["metrics"],
        "error": row["error"],
    }
    return sentence, facts


def _tell_snapshot(reader: Reader, identity: str) -> tuple[str, Json]:
    rows = reader.find("snapshots", {"id": identity}, limit=1)
    row = _known(rows[0] if rows else None, "snapshot", identity)
    span = (
        "" if row["first_time"] is None else f", {row['first_time']:%Y-%m-%d} to {row['last_time']:%Y-%m-%d}"
    )
    n_erased = sum(each["end"] - each["start"] for each in row["erased"] or [])
    erased = f", {n_erased:,} more erased since" if n_erased else ""
    sentence = f"{row['n_rows']:,} rows of {row['dataset']}{erased}{span}, from {row['source']}"
    columns = ", ".join(f"{c['name']} {c['type']}" for c in row["columns"])
    return sentence, {"taken_at": row["taken_at"].isoformat(), "columns": columns, "parts": len(row["parts"])}


def _tell_folder(reader: Reader, identity: str) -> tuple[str, Json]:
    rows = reader.find("folder_snapshots", {"id": identity}, limit=1)
    row = _known(rows[0] if rows else None, "snapshot of a folder", identity)
    files = "1 file" if row["n_files"] == 1 else f"{row['n_files']:,} files"
    facts = {"taken_at": row["taken_at"].isoformat(), "n_bytes": row["n_bytes"], "manifest": row["manifest"]}
    return f"{files} of the folder {row['dataset']}, from {row['source']}", facts


def _tell_code(reader: Reader, identity: str) -> tuple[str, Json]:
    row = _known(reader.get("code_trees", id=identity), "code", identity)
    commit = f"commit {row['commit'][:SHORT]}" if row["commit"] else "no git commit"
    dirty = ", with uncommitted changes" if row["commit"] and row["is_dirty"] else ""
    files = "1 file" if row["n_files"] == 1 else f"{row['n_files']:,} files"
    sentence = f"{files} of code, {commit}{dirty}"
    return sentence, {"manifest": row["manifest"], "captured_at": row["captured_at"].isoformat()}


def _tell_environment(reader: Reader, identity: str) -> tuple[str, Json]:
    row = _known(reader.get("environments", id=identity), "environment", identity)
    return "packages, Python and machine it ran on", {"detail": row["detail"]}


def _tell_decision(reader: Reader, identity: str) -> tuple[str, Json]:
    row = _known(reader.get("decisions", id=identity), "decision", identity)
    return f"{row['at']:%Y-%m-%d} {row['kind']}: {row['sentence']}", {"evidence": row["evidence"]}


def _tell_finding(reader: Reader, identity: str) -> tuple[str, Json]:
    row = _known(reader.get("findings", id=identity), "finding", identity)
    return f"{row['found_at']:%Y-%m-%d} {row['level']}: {row['sentence']}", {
        "method": row["method"],
        "n": row["n"],
    }


def _tell_batch(reader: Reader, identity: str) -> tuple[str, Json]:
    row = _known(reader.get("batches", id=identity), "batch", identity)
    sentence = (
        f"{row['n_rows']:,} rows of {row['source']} answered by version {row['version']} of"
        f" {row['deployment']}: {row['status']}"
    )
    facts = {
        name: row[name] for name in ("destination", "source_digest", "destination_digest", "actor", "error")
    }
    return sentence, facts | {"started_at": row["started_at"].isoformat()}


def _tell_file(reader: Reader, identity: str) -> tuple[str, Json]:  # noqa: ARG001
    file = opened_file(identity)
    return f"{file.path}, read by the training and not kept", {"sha256": file.sha256}


def _tell_submodule(reader: Reader, identity: str) -> tuple[str, Json]:  # noqa: ARG001
    held = Submodule.parse(identity)
    return f"submodule {held.path} at commit {held.commit[:SHORT]} of {held.url or 'nowhere'}", {
        "commit": held.commit
    }


def _known(row: Row | None, kind: str, identity: str) -> Row:
    if row is None:
        raise NotFound(f"The {kind} {identity!r} is named by another record, but is not in this store.")
    return row


_TOLD: dict[str, Callable[[Reader, str], tuple[str, Json]]] = {
    "version": _tell_version,
    "run": _tell_run,
    "snapshot": _tell_snapshot,
    "folder": _tell_folder,
    "code": _tell_code,
    "environment": _tell_environment,
    "decision": _tell_decision,
    "finding": _tell_finding,
    "batch": _tell_batch,
    "file": _tell_file,
    "submodule": _tell_submodule,
}
