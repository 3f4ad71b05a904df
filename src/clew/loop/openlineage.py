"""The thread as events of OpenLineage, the format in which catalogues of data take lineage.

A record that something made at a moment (a run, a snapshot, a decision, an answer) is a run of a job there:
it started and it completed. Snapshots, versions of models and answers are its datasets, each under a version
of its own. What OpenLineage has no word for stands in facets whose names begin with ``clew_``.

References
----------
OpenLineage 2-0-2, https://openlineage.io/spec/2-0-2/OpenLineage.json
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import NAMESPACE_URL, uuid5

import msgspec

import clew
from clew.entities import Json
from clew.errors import Erased
from clew.loop.prediction_thread import moment_of
from clew.loop.result import ThreadNode
from clew.storage import Reader, Store, read_record
from clew.tracking.opened_files import opened_file

NAMESPACE = "clew"
"""Of every job, and of the datasets that a store holds."""

FILES = "file"
"""The namespace of what lies outside of a store."""

_SPEC = "https://openlineage.io/spec"
_EVENT = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
# Our own facets have no schema beyond that of any facet of a run, to which anything may be added.
_OWN_FACET = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunFacet"
_SCHEMA = f"{_SPEC}/facets/1-0-0/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet"
_VERSION = f"{_SPEC}/facets/1-0-0/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet"
_ERROR = f"{_SPEC}/facets/1-0-0/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet"

Name: TypeAlias = tuple[str, str]
"""Kind and id of a record."""

Row = Mapping[str, Any]
Records: TypeAlias = Mapping[Name, Row]

_TABLES = {
    "run": "runs",
    "snapshot": "snapshots",
    "folder": "folder_snapshots",
    "code": "code_trees",
    "environment": "environments",
    "decision": "decisions",
    "finding": "findings",
    "batch": "batches",
}


def run_uuid(kind: str, identity: str) -> str:
    """What OpenLineage calls a record of ours: the same in every store and every export.

    Examples
    --------
    >>> run_uuid("run", "fe49e118134f")
    '38251879-5bcc-55be-8074-07547eb27a6e'
    """
    return str(uuid5(NAMESPACE_URL, f"clew:{kind}:{identity}"))


def lineage_events(thread: ThreadNode, records: Records, now: datetime) -> list[Json]:
    """The events of a thread in the order of their time: one that a job started, and one of how it ended.

    Parameters
    ----------
    thread
        Followed back or forward.
    records
        By kind and id what the store has of its nodes, as `thread_records` reads it.
    now
        The time of what has none, such as a count of answers.
    """
    view = _View.of(thread, records, now)
    acts = [act for name in view.names for act in _acts_of(view, name)]
    events = [event for act in acts for event in _events(act)]
    return sorted(events, key=lambda event: (event["eventTime"], event["eventType"] != "START"))


def thread_records(store: Store, thread: ThreadNode) -> dict[Name, Row]:
    """Rows of the store behind a thread's nodes, and behind those that its runs name."""
    nodes = {(node.kind, node.id): node for node in _walk(thread)}
    with store.read() as reader:
        found = {name: row for name in nodes if (row := _row(reader, *name)) is not None}
        for field, kind in (("run", "run"), ("snapshot", "snapshot"), ("code", "code")):
            found |= _named(reader, found, field, kind)
        found |= _named(reader, found, "environment", "environment")
    if thread.kind == "prediction":
        with suppress(Erased):  # that it was erased stands in its node
            found[thread.kind, thread.id] = msgspec.structs.asdict(read_record(store, thread.id))
    return found


def _row(reader: Reader, kind: str, identity: str) -> Row | None:
    if kind in ("version", "predictions"):
        deployment, _, number = identity.rpartition("@")
        return reader.get("versions", deployment=deployment, number=int(number))
    if kind == "deployment":
        return reader.get("deployments", name=identity)
    if kind == "audit":
        return reader.get("audit", sequence=int(identity))
    if kind not in _TABLES:
        return None
    rows = reader.find(_TABLES[kind], {"id": identity}, limit=1)
    return rows[0] if rows else None


def _named(reader: Reader, records: Records, field: str, kind: str) -> dict[Name, Row]:
    wanted = {(kind, row[field]) for row in records.values() if row.get(field)}
    return {name: row for name in wanted - set(records) if (row := _row(reader, *name)) is not None}


# -- the thread, laid flat -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _View:
    """Each node once, with what it came from; `names` has also records that the thread only implies."""

    root: Name
    nodes: Mapping[Name, ThreadNode]
    causes: Mapping[Name, list[Name]]
    records: Records
    now: datetime

    @classmethod
    def of(cls, thread: ThreadNode, records: Records, now: datetime) -> _View:
        nodes: dict[Name, ThreadNode] = {}
        causes: dict[Name, list[Name]] = {}
        for node in _walk(thread):
            name = (node.kind, node.id)
            nodes.setdefault(name, node)
            links = [(name, (cause.kind, cause.id)) for cause in node.causes]
            links += [((effect.kind, effect.id), name) for effect in node.effects]
            for later, earlier in links:
                known = causes.setdefault(later, [])
                if earlier not in known:
                    known.append(earlier)
        return cls((thread.kind, thread.id), nodes, causes, records, now)

    @property
    def names(self) -> list[Name]:
        return list(dict.fromkeys([*self.nodes, *(name for name in self.records if name[0] == "run")]))

    def before(self, name: Name, kind: str) -> list[str]:
        """Ids of this kind that a record came from."""
        return [identity for its_kind, identity in self.causes.get(name, ()) if its_kind == kind]

    def after(self, name: Name, kind: str) -> list[str]:
        """Ids of this kind that came of a record."""
        return [later[1] for later, causes in self.causes.items() if later[0] == kind and name in causes]


def _walk(node: ThreadNode) -> Iterator[ThreadNode]:
    yield node
    for other in (*node.causes, *node.effects):
        yield from _walk(other)


# -- records as runs of jobs ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Act:
    """A run of a job; `ended` is None while it goes on."""

    name: Name
    job: str
    started: datetime
    ended: datetime | None
    facets: Json
    inputs: list[Json]
    outputs: list[Json]
    error: str | None = None


def _events(act: _Act) -> Iterator[Json]:
    yield _event(act, "START", act.started, [])
    if act.ended is not None:
        yield _event(act, "COMPLETE" if act.error is None else "FAIL", act.ended, act.outputs)


def _event(act: _Act, kind: str, at: datetime, outputs: list[Json]) -> Json:
    error = None if act.error is None or kind == "START" else {"message": act.error}
    facets = {name: _facet(facet) for name, facet in act.facets.items() if kind != "START" or name == "clew"}
    if error:
        facets["errorMessage"] = _facet({"programmingLanguage": "Python"} | error, _ERROR)
    event = {
        "eventType": kind,
        "eventTime": _iso(at),
        "run": {"runId": run_uuid(*act.name), "facets": facets},
        "job": {"namespace": NAMESPACE, "name": act.job},
        "inputs": act.inputs,
        "outputs": outputs,
        "producer": _producer(),
        "schemaURL": _EVENT,
    }
    plain: Json = msgspec.to_builtins(event, enc_hook=_as_text)
    return plain


def _acts_of(view: _View, name: Name) -> Iterator[_Act]:
    kind, row = name[0], view.records.get(name)
    if kind in ("code", "environment") and name != view.root:
        return  # said with each run that they were behind
    about = _about(view, name)
    if kind in ("prediction", "predictions"):
        yield _prediction(view, name, about)
    elif row is not None and kind in _ACTS:
        yield _ACTS[kind](view, name, row, about)


def _about(view: _View, name: Name) -> Json:
    """The facet that every event has: which record it is of, and which ones that came from."""
    node = view.nodes.get(name)
    causes = [_reference(each) for each in view.causes.get(name, ())]
    told = {} if node is None else {"sentence": node.sentence}
    return {"clew": {"kind": name[0], "id": name[1], **told, "causes": causes}}


def _reference(name: Name) -> Json:
    return {"kind": name[0], "id": name[1], "runId": run_uuid(*name)}


def _run(view: _View, name: Name, row: Row, about: Json) -> _Act:
    made = [
        version for version, its in view.records.items() if version[0] == "version" and its["run"] == name[1]
    ]
    folders = [_dataset_of(view, ("folder", each)) for each in view.before(name, "folder")]
    files = [_file(each) for each in view.before(name, "file")]
    used = [_dataset_of(view, ("snapshot", row["snapshot"]))] if row["snapshot"] else []
    facets = about | {
        "clew_run": _some(row, "key", "model", "purpose", "status", "params", "seed", "rows", "seconds")
        | _some(row, "peak_memory_bytes", "model_digest", "output"),
        "clew_metrics": {"metrics": row["metrics"] or {}, "intervals": row["intervals"] or {}},
        **_code(view, row["code"]),
        **_environment(view, row["environment"]),
    }
    if made:
        facets["clew_model"] = {"versions": [_version(view, each) for each in made]}
    error = (row["error"] or "no reason is on record") if row["status"] == "failed" else None
    outputs = [_model(version[1]) for version in made]
    job = f"{row['model']}.{row['purpose']}"
    return _Act(
        name, job, row["started_at"], row["ended_at"], facets, [*used, *folders, *files], outputs, error
    )


def _version(view: _View, name: Name) -> Json:
    row, node = view.records[name], view.nodes.get(name)
    told = {} if node is None else {"sentence": node.sentence, "aliases": node.facts.get("aliases", [])}
    causes = [_reference(each) for each in view.causes.get(name, ())]
    shown = _some(row, "deployment", "number", "package", "flavor", "metrics", "gate", "created_at")
    return {"id": name[1], **told, **shown, "causes": causes}


def _code(view: _View, identity: str | None) -> Json:
    row = view.records.get(("code", identity or ""))
    if row is None:
        return {}
    shown = _some(row, "id", "manifest", "commit", "is_dirty", "n_files", "captured_at")
    causes = [_reference(each) for each in view.causes.get(("code", row["id"]), ())]
    return {"clew_code": shown | {"causes": causes}}


def _environment(view: _View, identity: str | None) -> Json:
    row = view.records.get(("environment", identity or ""))
    return {} if row is None else {"clew_environment": _some(row, "id", "detail", "captured_at")}


def _taking(view: _View, name: Name, row: Row, about: Json) -> _Act:
    """A snapshot of a table or a folder, as it was taken."""
    facets = about | _code(view, row.get("code"))
    facets["clew_snapshot"] = _some(row, "dataset", "n_rows", "n_files", "first_time", "last_time", "source")
    source = [_dataset(FILES, row["source"])] if row["source"] else []
    at = row["taken_at"]
    return _Act(name, f"{row['dataset']}.snapshot", at, at, facets, source, [_dataset_of(view, name)])


def _capture(view: _View, name: Name, row: Row, about: Json) -> _Act:
    facets = about | (_code(view, name[1]) if name[0] == "code" else _environment(view, name[1]))
    return _Act(name, f"{name[0]}.capture", row["captured_at"], row["captured_at"], facets, [], [])


def _decision(view: _View, name: Name, row: Row, about: Json) -> _Act:
    facets = about | {"clew_decision": _some(row, "deployment", "kind", "sentence", "evidence", "findings")}
    models = [_model(each) for each in view.after(name, "version")]
    return _Act(name, f"{row['deployment']}.{row['kind']}", row["at"], row["at"], facets, models, [])


def _finding(_view: _View, name: Name, row: Row, about: Json) -> _Act:
    shown = _some(row, "deployment", "monitor", "level", "subject", "window_start", "window_end", "value")
    facets = about | {"clew_finding": shown | _some(row, "lower", "upper", "n", "method", "sentence")}
    asked, job = _answers(row["deployment"]), f"{row['deployment']}.monitor.{row['monitor']}"
    return _Act(name, job, row["found_at"], row["found_at"], facets, [asked], [])


def _audit(_view: _View, name: Name, row: Row, about: Json) -> _Act:
    facets = about | {"clew_audit": _some(row, "actor", "action", "subject", "reason", "evidence")}
    moved_to = (row["evidence"] or {}).get("to")
    models = [] if moved_to is None else [_model(f"{row['subject']}@{moved_to}")]
    return _Act(name, f"{row['subject']}.{row['action']}", row["at"], row["at"], facets, models, [])


def _batch(_view: _View, name: Name, row: Row, about: Json) -> _Act:
    facets = about | {"clew_predictions": _some(row, "deployment", "version", "n_rows", "actor", "status")}
    model = _model(f"{row['deployment']}@{row['version']}")
    source = _dataset(FILES, row["source"] or "unknown", row["source_digest"])
    written = _dataset(FILES, row["destination"] or "unknown", row["destination_digest"])
    error = (row["error"] or "no reason is on record") if row["status"] == "failed" else None
    job = f"{row['deployment']}.batch"
    return _Act(name, job, row["started_at"], row["ended_at"], facets, [model, source], [written], error)


def _deployment(_view: _View, name: Name, row: Row, about: Json) -> _Act:
    facets = about | {"clew_deployment": _some(row, "name", "kind", "model", "threshold")}
    at = row["created_at"]
    return _Act(name, f"{row['name']}.deploy", at, at, facets, [], [_answers(row["name"])])


def _prediction(view: _View, name: Name, about: Json) -> _Act:
    """One answer, or all answers of a version, counted."""
    node, row = view.nodes[name], view.records.get(name)
    models = [_model(each) for each in view.before(name, "version")]
    rows = [{"key": each, **view.nodes["row", each].facts} for each in view.before(name, "row")]
    facets = about | {"clew_predictions": node.facts | ({"rows": rows} if rows else {})}
    is_one = name[0] == "prediction"
    at = moment_of(row["answered_at"]) if is_one and row is not None else view.now
    deployment = view.before(name, "version")[0].rpartition("@")[0] if models else "unknown"
    written = _answers(deployment, name[1] if is_one else None)
    return _Act(name, f"{deployment}.predict", at, at, facets, models, [written])


_ACTS: Mapping[str, Callable[[_View, Name, Row, Json], _Act]] = {
    "run": _run,
    "snapshot": _taking,
    "folder": _taking,
    "code": _capture,
    "environment": _capture,
    "decision": _decision,
    "finding": _finding,
    "audit": _audit,
    "batch": _batch,
    "deployment": _deployment,
}


# -- datasets and facets -------------------------------------------------------------------------------


def _dataset_of(view: _View, name: Name) -> Json:
    row = view.records.get(name)
    if row is None:
        return _dataset(NAMESPACE, name[0], name[1])
    columns = [{"name": each["name"], "type": each["type"]} for each in row.get("columns") or ()]
    return _dataset(NAMESPACE, f"data/{row['dataset']}", name[1], columns)


def _model(version: str) -> Json:
    deployment, _, number = version.rpartition("@")
    return _dataset(NAMESPACE, f"models/{deployment}", number)


def _answers(deployment: str, version: str | None = None) -> Json:
    return _dataset(NAMESPACE, f"predictions/{deployment}", version)


def _file(identity: str) -> Json:
    file = opened_file(identity)
    return _dataset(FILES, file.path, file.sha256)


def _dataset(
    namespace: str, name: str, version: str | None = None, columns: list[Json] | None = None
) -> Json:
    facets = {}
    if version is not None:
        facets["version"] = _facet({"datasetVersion": version}, _VERSION)
    if columns:
        facets["schema"] = _facet({"fields": columns}, _SCHEMA)
    return {"namespace": namespace, "name": name, "facets": facets}


def _facet(content: Json, schema: str = _OWN_FACET) -> Json:
    return {"_producer": _producer(), "_schemaURL": schema, **content}


def _producer() -> str:
    return f"urn:clew:{clew.__version__}"


def _some(row: Row, *names: str) -> Json:
    return {name: row[name] for name in names if row.get(name) is not None}


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _as_text(value: Any) -> str:
    return str(value)
