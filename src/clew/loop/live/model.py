"""The loop of one running model: it goes live, lives its ticks, obeys people, and survives its process."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from clew.datasets import feature_names, get_snapshot
from clew.entities import Decision, Json, Param, Version
from clew.errors import ClewError, Conflict, StoreBusy, UsageError
from clew.loop.commands import (
    STATUS_SET_BY,
    Command,
    LiveStage,
    act_on_records,
    carry_out,
    champion_moved_by,
    has_begun,
    moved_sentence,
    newest_champion_move,
    record_status,
    refuse_what_cannot_be,
    rollout_ended_by,
    rollout_to_end,
    status_of,
    version_to_promote,
    waiting,
)
from clew.loop.first import FirstChampion, first_champion, first_decision
from clew.loop.fitter import Packaged, Thread
from clew.loop.history import History
from clew.loop.live.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from clew.loop.live.fitter import LiveFitter
from clew.loop.live.rows import LiveRows, matured_history
from clew.loop.live.surroundings import LiveStatus, Surroundings
from clew.loop.live.traffic import LiveTraffic
from clew.loop.live.upgrades import check_after_upgrade
from clew.loop.live.workshop import Workshop
from clew.loop.live.world import LiveWorld
from clew.loop.model_loop import ModelLoop
from clew.loop.policy import Policy, metric_of
from clew.loop.recording import newest_decision, store_decision
from clew.loop.release import ReleaseDesk
from clew.loop.result import Event
from clew.loop.standing import FittedModel
from clew.registry import aliases, ensure_deployment, get_version, list_versions, move_alias, record_audit
from clew.registry.routes import get_route
from clew.tracking import capture_environment, this_owner
from clew.training import Described

log = logging.getLogger("clew.loop")

ROOM_FOR_ROWS = 4096
"""Rows that a new loop has room for beyond those it begins with; it makes more when they come."""

TRY_AGAIN = timedelta(days=1)
"""When a model that could not go live is tried again: by then there may be more rows."""

GO_ON_AGAIN = timedelta(minutes=10)
"""When one that has lived and could not go on is tried again: nothing watches it until then."""

ROLLOUT_LOOK = timedelta(minutes=1)
"""How often a rollout's requests are looked at between ticks, so that a fault does not wait for the next."""


class LiveModel:
    """The loop of one deployment. Its methods may be called from any thread, one at a time."""

    def __init__(self, around: Surroundings, described: Described, params: Mapping[str, Param]) -> None:
        self._around, self._described, self._params = around, described, params
        self.deployment = described.model.name
        self.status, self.sentence = "new", ""
        self.next_tick: datetime | None = None
        self._n_ticks, self._has_lived = 0, False
        self._loop: ModelLoop | None = None
        self._lock = threading.RLock()
        self._broken_off_at: datetime | None = None
        self._workshop = self._new_workshop()

    def _new_workshop(self) -> Workshop:
        return Workshop(self._around.store, self._around.project, self._described, self._completed)

    # -- life --------------------------------------------------------------------------------------------

    def start(self, now: datetime) -> None:
        """Go on where a checkpoint says, or go live; a model that cannot is tried again later."""
        with self._lock:
            declaration, store = self._described.model, self._around.store
            ensure_deployment(store, self.deployment, "live", declaration.name, declaration, now)
            check_after_upgrade(self._around, self.deployment, now)
            try:
                checkpoint = load_checkpoint(store, self.deployment)
                self._has_lived = checkpoint is not None
                if checkpoint is not None:
                    self._go_on(checkpoint, now)
                elif self._recorded_status() == "retired":
                    raise UsageError(
                        "it was retired before it went live. Put a version in office first: clew promote"
                        f" {self.deployment} VERSION --reason '…'"
                    )
                else:
                    self._go_live(now)
                self._has_lived = True
            except ClewError as error:
                self._loop = None  # half a loop is none
                if isinstance(error, StoreBusy):
                    raise  # soon over, and nothing about this model
                # The other models of the project go live all the same; this one says what it waits for.
                self.status, self.sentence = "waiting", str(error).partition("\n")[0]
                self.next_tick = now + (GO_ON_AGAIN if self._has_lived else TRY_AGAIN)
                log.warning("a model cannot go live", extra={"model": self.deployment, "why": self.sentence})
                self._tell_not_live(now)
            except BaseException:
                self._loop = None
                raise

    def _tell_not_live(self, now: datetime) -> None:
        """Decided and told once for each reason; every other try is an event alone."""
        decision = Decision("not live", now, f"{self.deployment} cannot go live: {self.sentence}", {})
        store, around = self._around.store, self._around
        with store.read() as reader:
            newest = newest_decision(reader, self.deployment)
        if newest is None or _without_numbers(newest["sentence"]) != _without_numbers(decision.sentence):
            n_before = newest["sequence"] if newest else 0
            notifications = around.settings.notifications
            store_decision(store, notifications, self.deployment, n_before + 1, decision)
        around.on_event(self.deployment, Event(now, decision.kind, decision.sentence))

    @property
    def next_due(self) -> datetime | None:
        """When it has something to do: a tick, or the end of a rollout's stage."""
        if self._broken_off_at is not None:
            return self._broken_off_at
        if self.next_tick is None or self._loop is None or self._loop.releasing is None:
            return self.next_tick
        ends = None if self.status in ("paused", "retired") else self._desk.stage_ends
        return self.next_tick if ends is None else min(self.next_tick, max(ends, self._lived_until))

    def advance(self, until: datetime) -> None:
        """Live through everything that is due by `until`, each at its own moment."""
        with self._lock:
            while (due := self.next_due) is not None and due <= until:
                if self._broken_off_at is not None:
                    self._recover(due)
                elif self._loop is None:
                    self.start(due)
                else:
                    self._live(due)

    def look(self, now: datetime) -> None:
        """Between ticks: a candidate whose requests go wrong is not left to the next tick."""
        with self._lock:
            if self._broken_off_at is not None:
                self._recover(now)
            if self._loop is None or self._loop.releasing is None or self._traffic.trial is None:
                return
            if now >= self._lived_until + ROLLOUT_LOOK:
                self._live(now)

    def _live(self, now: datetime) -> None:
        assert self._loop is not None  # noqa: S101 - advance() looked
        with self._whole_or_undone(now):
            self._fitter.wake()
            self._world.take_in(now, grace=self._policy.tick)
            self._loop.is_paused = self._desk.is_held = self.status in ("paused", "retired")
            self._loop.tick(now)
            self._lived_until = now + timedelta(microseconds=1)
            if self.next_tick is not None and now >= self.next_tick:
                self._n_ticks += 1
                self.next_tick += self._policy.tick
            self._save(now)

    @contextmanager
    def _whole_or_undone(self, now: datetime) -> Iterator[None]:
        """A moment that breaks off, as when the store cannot be written, is lived again from what was kept.

        What is in memory may know half of it; what was kept knows nothing of it, as after a crash.
        """
        try:
            yield
        except BaseException:
            self._broken_off_at = now
            raise

    def _recover(self, now: datetime) -> None:
        checkpoint = load_checkpoint(self._around.store, self.deployment)
        assert checkpoint is not None, "what lived was kept"  # noqa: S101
        # Its children hold fits that were broken off with the rest.
        self._workshop.close()
        self._workshop = self._new_workshop()
        self._go_on(checkpoint, now)
        self._broken_off_at = None
        log.warning("a moment broke off and is lived again", extra={"model": self.deployment, "at": now})

    def rest(self, idle_seconds: float) -> None:
        """Let the children go when nothing was asked of them for so long."""
        with self._lock:
            self._workshop.rest(idle_seconds)

    def close(self) -> None:
        with self._lock:
            self._workshop.close()

    # -- going live --------------------------------------------------------------------------------------

    def _go_live(self, now: datetime) -> None:
        around, declaration = self._around, self._described.model
        self._workshop.refresh(now)
        table, snapshot = self._workshop.rows, self._workshop.snapshot
        assert table is not None  # noqa: S101 - refresh() has just read it
        assert snapshot is not None  # noqa: S101 - see above
        features = feature_names(snapshot.columns, declaration.dataset, declaration.not_features)
        rows = LiveRows(matured_history(History.of(declaration, table, features), now))
        rows.expect(table, now)
        self._assemble(rows, snapshot.id)
        first = first_champion(
            self._fitter,
            self._workshop.checker,
            now,
            n_models=len(around.project.described),
            budget=around.settings.budget.false_pages_per_quarter,
            fits_per_day=around.settings.budget.fits_per_day,
        )
        self._policy, self._level = first.policy, first.policy.metric.value(first.judged.raw)
        self._furnish()
        metrics = {first.policy.metric.name: self._level}
        version = self._desk.enter(
            first.model, first.packaged, first.report, metrics, now, reason="first champion"
        )
        self._loop = ModelLoop(
            first.policy, self._world, first.model, first.reference, len(rows) + ROOM_FOR_ROWS, now
        )
        self.status, self.sentence, self._n_ticks = self._recorded_status(), "", 0
        self.next_tick, self._lived_until = now + first.policy.tick, now
        self._take_first_office(first, version, now)
        self._save(now)

    def _take_first_office(self, first: FirstChampion, version: Version, now: datetime) -> None:
        """Put the first version in office, unless a person chose another one, or the gate failed it."""
        chosen = aliases(self._around.store, self.deployment).get("champion")
        decision = first_decision(first, now)
        failed = next((check for check in first.report.checks if check.outcome == "fail"), None)
        if chosen is None and failed is not None:
            self.sentence = (
                f"the first model failed the gate: {failed.name}: {failed.sentence}. To serve it all the"
                f" same: clew promote {self.deployment} {version.number} --reason '…'"
            )
            sentence = f"{self.deployment} waits: {self.sentence}"
            decision = replace(decision, kind="not live", sentence=sentence)
        self._world.decided(decision, first.model)
        self._world.take_office(first.model, now)
        if chosen is not None and chosen != version.number:
            self._person_chose(chosen, now)
        elif decision.kind == "not live":
            self._traffic.end_trial(now, "loop", "the first model failed the gate")
        else:
            self._answer_first(version, first.report.outcome, now)

    def _answer_first(self, version: Version, gate: str, now: datetime) -> None:
        reason, evidence = "first champion", {"gate": gate}
        self._traffic.set_champion(version.number, "loop", reason, evidence, now)
        move_alias(
            self._around.store, self.deployment, "anchor", version.number, expected=None, actor="loop",
            reason=reason, evidence=evidence, now=now,
        )  # fmt: skip

    # -- what it is made of ------------------------------------------------------------------------------

    def _assemble(self, rows: LiveRows, snapshot: str) -> None:
        around, declaration = self._around, self._described.model
        thread = Thread(
            snapshot=get_snapshot(around.store, snapshot),
            code=around.project.tree,
            environment=capture_environment(
                around.store, now=around.clock(), variables=self._workshop.variables
            ),
            params=self._params,
            seed=around.seed,
            owner=this_owner(),
            folders=self._workshop.folders,
        )
        prefix = f"live/{self.deployment}"
        metric = metric_of(declaration)
        self._rows = rows
        self._fitter = LiveFitter(
            around.store, self._workshop, rows, thread, metric, prefix, around.clock, around.slot
        )

    def _furnish(self) -> None:
        """The desk, the traffic and the world of a policy."""
        around = self._around

        def announce(decision: Decision, report: Any) -> None:
            self._world.announced(decision, report)

        versions: dict[str, Version] = {}
        self._traffic = LiveTraffic(around.store, self.deployment, self._fitter, versions, around.doorbell)
        self._desk = ReleaseDesk(
            self._fitter,
            self._policy,
            self.deployment,
            lambda: self._workshop.checker,
            self._traffic,
            announce,
        )
        self._desk.versions = versions
        self._world = LiveWorld(
            around.store,
            self._fitter,
            self._policy,
            self._desk,
            self._traffic,
            around.settings.notifications,
            len(around.project.described),
            around.on_event,
        )

    def _completed(self, table: Any) -> Any:
        """The table with what only the log knows; before there is a log, the table itself."""
        rows = getattr(self, "_rows", None)
        return table if rows is None else rows.completed(table)

    # -- life beyond a process ---------------------------------------------------------------------------

    def _save(self, now: datetime) -> None:
        assert self._loop is not None  # noqa: S101 - only what lives is saved
        assert self.next_tick is not None  # noqa: S101 - see above
        policy = {field.name: getattr(self._policy, field.name) for field in fields(Policy)}
        state = {
            "policy": {
                name: value for name, value in policy.items() if name not in ("declaration", "metric")
            },
            "level": self._level,
            "lived_until": self._lived_until,
            "sentence": self.sentence,
            "snapshot": self._fitter.thread.snapshot.id,
            "rows": self._rows.state(),
            "fitter": self._fitter.state(),
            "desk": self._desk.state(),
            "world": self._world.state(),
            "loop": self._loop.state(),
        }
        checkpoint = Checkpoint(self.deployment, self._n_ticks, now, self.next_tick, self.status, state)
        save_checkpoint(self._around.store, checkpoint, self._world.positions)

    def _go_on(self, checkpoint: Checkpoint, now: datetime) -> None:
        state, declaration = checkpoint.state, self._described.model
        self._workshop.use(get_snapshot(self._around.store, state["snapshot"]), now)
        rows = LiveRows.restored(state["rows"] | {"declaration": declaration})
        self._assemble(rows, state["snapshot"])
        self._fitter.restore(state["fitter"])
        self._level = state["level"]
        self._policy = self._policy_now(state["policy"])
        self._furnish()
        versions = self._traffic_versions(state["desk"])
        self._desk.restore(state["desk"] | {"versions": versions})
        self._world.restore(state["world"])
        loop = object.__new__(ModelLoop)
        loop.policy, loop.world = self._policy, self._world
        loop.restore(state["loop"])
        self._loop = loop
        self.status, self.sentence = checkpoint.status, state["sentence"]
        self._n_ticks, self.next_tick = checkpoint.tick, checkpoint.next_tick
        self._lived_until = state["lived_until"]
        self._follow_records(now)

    def _traffic_versions(self, desk: Mapping[str, Any]) -> dict[str, Version]:
        """The one mapping that desk and traffic share, with what the desk knew."""
        versions: dict[str, Version] = self._desk.versions
        versions.update(desk["versions"])
        return versions

    def _policy_now(self, stored: Mapping[str, Any]) -> Policy:
        """The policy that life began with, for the declaration as it is now."""
        declaration = self._described.model
        metric = metric_of(declaration)
        policy = Policy(declaration=declaration, metric=metric, **stored)
        margin = metric.loss_margin(self._level, declaration.margin.absolute(self._level)) / policy.bound
        return replace(policy, margin=margin, fits_per_day=self._around.settings.budget.fits_per_day)

    def _follow_records(self, now: datetime) -> None:
        """What people changed while nothing ran is in the records: follow it."""
        assert self._loop is not None  # noqa: S101 - just restored
        chosen = aliases(self._around.store, self.deployment).get("champion")
        is_other = chosen is not None and chosen != self._desk.versions[self._loop.champion.name].number
        if chosen is not None and is_other and not self._is_moved_again():
            self._person_chose(chosen, now)
            self._banish_what_was_rolled_back()
            self._save(now)
        route = self._route()
        if self.status != "retired" and chosen is not None and (route is None or route.champion is None):
            self._traffic.end_trial(now, "loop", "no route was there for the champion")

    def _banish_what_was_rolled_back(self) -> None:
        move = newest_champion_move(self._around.store, self.deployment)
        before = None if move is None else move.evidence.get("from")
        if move is not None and move.evidence.get("verb") == "rollback" and before is not None:
            assert self._loop is not None  # noqa: S101 - whoever calls has looked
            self._loop.banish(self._model_of(before))

    def _is_moved_again(self) -> bool:
        """Whether the champion was moved in a moment that broke off, and is lived or obeyed once more."""
        newest = newest_champion_move(self._around.store, self.deployment)
        command = None if newest is None else newest.evidence.get("command")
        return command is None or any(each.id == command for each in waiting(self._around.store))

    def _recorded_status(self) -> LiveStage:
        with self._around.store.read() as reader:
            return status_of(reader, self.deployment)

    def _route(self) -> Any:
        with self._around.store.read() as reader:
            return get_route(reader, self.deployment)

    # -- people ------------------------------------------------------------------------------------------

    def run_commands(self, now: datetime) -> int:
        """Carry out what people told this deployment; how much that was."""
        with self._lock:
            told = waiting(self._around.store, self.deployment)
            for command in told:
                carry_out(self._around.store, command, lambda each: self._obey(each, now), now)
            return len(told)

    def _obey(self, command: Command, now: datetime) -> Json:
        if self._broken_off_at is not None:
            self._recover(now)
        if self._loop is None and self._has_lived:
            self.start(now)
        if self._loop is None:
            return self._obey_without_loop(command, now)
        self._fitter.wake()
        actions: dict[str, Callable[[Command, datetime], Json]] = {
            "promote": self._promote,
            "rollback": self._roll_back,
            "pause": self._set_status,
            "resume": self._set_status,
            "retire": self._set_status,
            "retrain": self._retrain,
        }
        # Before anything of it is done, as afterwards there would be something to undo.
        if not has_begun(self._around.store, command):
            self._refuse_what_cannot_be(command)
        with self._whole_or_undone(now):
            result = actions[command.verb](command, now)
            self._save(now)
        return result

    def _obey_without_loop(self, command: Command, now: datetime) -> Json:
        """People can also say who answers for a model that cannot be looked after just now."""
        if command.verb == "retrain":
            raise UsageError(f"{self.deployment} is not live: {self.sentence or 'it has not begun yet'}")
        return act_on_records(self._around.store, command, now)

    def _refuse_what_cannot_be(self, command: Command) -> None:
        assert self._loop is not None  # noqa: S101 - _obey() looked
        refuse_what_cannot_be(self._around.store, command.verb, self.deployment, command.arguments)
        if command.verb == "retrain" and self._loop.releasing is not None:
            raise Conflict(
                f"A release of {self._loop.releasing.name} is under way, fitted on all that was known when it"
                " began; ask again when it is over, or end it first: clew rollback"
                f" {self.deployment} --reason '…'"
            )

    def _roll_back(self, command: Command, now: datetime) -> Json:
        store, ended = self._around.store, rollout_ended_by(self._around.store, command)
        number = ended or rollout_to_end(store, command.verb, self.deployment, command.arguments)
        if number is None:
            return self._promote(command, now)
        return self._end_rollout(number, command, now, is_recorded=ended is not None)

    def _end_rollout(self, number: int, command: Command, now: datetime, *, is_recorded: bool) -> Json:
        assert self._loop is not None  # noqa: S101 - _obey() looked
        model, champion = self._model_of(number), self._desk.versions[self._loop.champion.name].number
        evidence = {"command": command.id, "version": number, "champion": champion}
        sentence = f"{command.actor} says: no further with version {number}: {command.reason}"
        facts = evidence | {"actor": command.actor}
        self._world.decided(Decision("rolled back", now, sentence, facts), model)
        if not is_recorded:
            with self._around.store.write() as tx:
                record_audit(
                    tx, now=now, actor=command.actor, action="end rollout", subject=self.deployment,
                    reason=command.reason, evidence=evidence,
                )  # fmt: skip
        self._desk.withdraw(now, "a person ended its rollout")
        self._traffic.end_trial(now, command.actor, command.reason)
        self._loop.releasing = None
        self._loop.banish(model)
        told = f"the rollout of version {number} has ended; version {champion} goes on answering"
        return {"sentence": told, "version": champion, "before": champion, "ended": number}

    def _promote(self, command: Command, now: datetime) -> Json:
        store, verb = self._around.store, command.verb
        number, before = champion_moved_by(store, command) or version_to_promote(
            store, verb, self.deployment, command.arguments
        )
        evidence = {"command": command.id, "verb": command.verb}
        sentence = f"{command.actor} says: {command.verb} to version {number}: {command.reason}"
        kind = "promoted" if command.verb == "promote" else "rolled back"
        facts = evidence | {"version": number, "before": before, "actor": command.actor}
        self._world.decided(Decision(kind, now, sentence, facts), self._model_of(number))
        self._traffic.set_champion(number, command.actor, command.reason, evidence, now, expected=before)
        self._person_chose(number, now)
        if command.verb == "rollback" and before is not None:
            assert self._loop is not None  # noqa: S101 - _obey() looked
            self._loop.banish(self._model_of(before))
        if self.status == "retired":
            self.status = "running"
        self.sentence = ""
        return moved_sentence(self.deployment, number, before)

    def _person_chose(self, number: int, now: datetime) -> None:
        assert self._loop is not None  # noqa: S101 - whoever calls has looked
        self._desk.withdraw(now, "a person chose another champion")
        model = self._model_of(number)
        self._traffic.end_trial(now, "loop", "a person chose another champion")
        self._loop.put_in_office(model)
        self._world.take_office(model, now)

    def _model_of(self, number: int) -> FittedModel:
        """A version as the loop knows it; one that it did not make is loaded from its package."""
        if number in self._world.models:
            return self._world.models[number]
        version = get_version(self._around.store, self.deployment, number)
        rows = ((0, len(self._rows)),)
        model = FittedModel(f"version {number}", version.run, rows, len(self._rows))
        self._fitter.packages[model.name] = Packaged(version.package, version.flavor, 0)
        self._desk.versions[model.name] = version
        self._desk.package_bytes[model.name] = 0
        self._world.models[number] = model
        return model

    def _set_status(self, command: Command, now: datetime) -> Json:
        record_status(self._around.store, command, now)
        if command.verb == "retire":
            assert self._loop is not None  # noqa: S101 - _obey() looked
            self._desk.withdraw(now, "retired")
            self._traffic.retire(now, command.actor, command.reason)
            self._loop.releasing = None
        self.status = STATUS_SET_BY[command.verb]
        return {"sentence": f"{self.deployment} is {self.status}"}

    def _retrain(self, command: Command, now: datetime) -> Json:
        assert self._loop is not None  # noqa: S101 - _obey() looked
        record_status(self._around.store, command, now)
        self._loop.orders.ask(f"{command.actor} asked: {command.reason}")
        return {"sentence": "a candidate is ordered at the next look", "next_tick": f"{self.next_tick}"}

    # -- what it looks like ------------------------------------------------------------------------------

    def describe(self) -> LiveStatus:
        """Where it stands now."""
        route, loop = self._route(), self._loop
        value, n = None, 0
        if loop is not None:
            recent = loop.losses[max(0, loop.seen - self._policy.window // 2) : loop.seen]
            known = recent[~np.isnan(recent)]
            n = len(known)
            value = self._policy.metric.value_of_loss(float(known.mean()) * self._policy.bound) if n else None
        return LiveStatus(
            deployment=self.deployment,
            metric=self._described.model.metric,
            value=value,
            n=n,
            version=route.champion if route else None,
            stage=route.stage if route else "none",
            status=self.status,
            next_tick=self.next_tick,
            sentence=self.sentence,
        )

    def versions(self) -> list[Version]:
        return list_versions(self._around.store, self.deployment)


def _without_numbers(sentence: str) -> str:
    return re.sub(r"\d+", "", sentence)
