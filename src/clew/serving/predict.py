"""Predictions: the bytes of a request in, the bytes of its answer out, and between them a record of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from clew.serving.answering import AT_ONCE_SECONDS, Answers, LoadedVersion, WrongRow, describe_failure
from clew.serving.columns import Subject
from clew.serving.figures_file import WorkerFigures
from clew.serving.recorder import Recorder
from clew.serving.refusals import Refused, wrong_row
from clew.serving.routing import is_in_share
from clew.serving.routing_table import Served
from clew.serving.rows import Row, read_rows
from clew.storage.records import Failure, Prediction, Record, Role

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Question:
    """One request while it is answered.

    Attributes
    ----------
    now
        By the system's clock, in microseconds since 1970.
    request
        Its name in the log.
    """

    served: Served
    rows: list[Row]
    subjects: list[Subject]
    now: int
    request: str
    is_list: bool


@dataclass(slots=True)
class Given:
    """Rows of a question, by position, and what a version answered to them."""

    version: LoadedVersion
    role: Role
    positions: Sequence[int]
    answers: Answers | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Beside:
    """A version that is still to be asked about a question that is answered already."""

    question: Question
    version: LoadedVersion
    positions: Sequence[int]


@dataclass(slots=True)
class Predictor:
    """Answers requests by the routes of one moment.

    Parameters
    ----------
    ask_later
        Takes a shadow that is too slow to be asked while a caller waits.
    """

    recorder: Recorder
    figures: WorkerFigures
    max_rows: int
    ask_later: Callable[[Beside], None]
    _everything: tuple[int, ...] = field(default=(0,), init=False)

    def predict(self, served: Served, body: bytes, now: int, request: str) -> bytes:
        """The answer to a request's body.

        Raises
        ------
        Refused
            When the body, a row or the model is at fault; then no row is answered and none is logged.
        """
        started = time.perf_counter()
        champion = served.answering()
        rows, is_list = read_rows(body, self.max_rows)
        if not rows:
            return b"[]"
        subject = served.columns.subject
        subjects = [subject(row, number, now, is_list=is_list) for number, row in enumerate(rows)]
        question = Question(served, rows, subjects, now, request, is_list)
        everything = self._everything if len(rows) == 1 else range(len(rows))
        if served.candidate is None:
            given = [self._ask_champion(question, champion, everything)]
            n_answers = 1
        else:
            given = self._ask_both(question, champion, served.candidate, everything)
            n_answers = sum(each.role != "shadow" and each.answers is not None for each in given)
        answer = self._logged(question, given, given[:n_answers])
        seconds = time.perf_counter() - started
        for each in given[:n_answers]:
            self.figures.of(served.name, each.version.number).answered(len(each.positions), seconds)
        return answer

    def ask_beside(self, beside: Beside) -> None:
        """Ask a shadow about a question that is answered, and log what it says."""
        given = self._ask_shadow(beside.question, beside.version, beside.positions)
        self.recorder.append_or_refuse(list(self._records(beside.question, given)))

    def skip_beside(self, beside: Beside) -> None:
        """Log that a shadow could not be asked, because earlier questions still wait for it."""
        error = "not asked: it is slower than requests come"
        given = Given(beside.version, "shadow", beside.positions, None, error)
        self.figures.of(beside.version.deployment, beside.version.number).failed(
            "NOT_ASKED", len(beside.positions)
        )
        self.recorder.append_or_refuse(list(self._records(beside.question, given)))

    # -- asking ----------------------------------------------------------------------------------------

    def _ask_champion(self, question: Question, champion: LoadedVersion, positions: Sequence[int]) -> Given:
        try:
            return self._ask(question, champion, "champion", positions)
        except WrongRow as error:
            raise _refused(error, question, positions[error.number], champion) from error
        # Whatever a model raises, the caller is told that the model failed, and the log says how.
        except Exception as error:
            self._note_failure(champion, len(positions))
            failed = Given(champion, "champion", positions, None, describe_failure(error))
            self.recorder.append_or_refuse(list(self._records(question, failed)))
            message = f"Version {champion.number} of {champion.deployment!r} failed on this request."
            raise Refused(500, "MODEL_FAILED", f"{message} {describe_failure(error)}.") from error

    def _ask_both(
        self,
        question: Question,
        champion: LoadedVersion,
        candidate: LoadedVersion,
        everything: Sequence[int],
    ) -> list[Given]:
        """First who answers the caller, then who failed to, then who is asked beside."""
        for_canary = self._for_canary(question, everything)
        by_canary: Given | None = None
        if for_canary:
            try:
                by_canary = self._ask(question, candidate, "canary", for_canary)
            # A canary may fail in any way: its callers get the champion's answer.
            except Exception as error:  # noqa: BLE001
                self._note_failure(candidate, len(for_canary))
                by_canary = Given(candidate, "canary", for_canary, None, describe_failure(error))
        if by_canary is None or by_canary.answers is None:
            answering = [self._ask_champion(question, champion, everything)]
        else:
            rest = [position for position in everything if position not in set(for_canary)]
            answering = [by_canary]
            answering += [self._ask_champion(question, champion, rest)] if rest else []
        failed = [by_canary] if by_canary is not None and by_canary.answers is None else []
        took = sum(each.version.seconds_per_row * len(each.positions) for each in answering)
        return [*answering, *failed, *self._asked_beside(question, champion, candidate, for_canary, took)]

    def _for_canary(self, question: Question, everything: Sequence[int]) -> list[int]:
        route = question.served.route
        if route is None or route.stage != "canary":
            return []
        subjects, share, salt = question.subjects, route.share, route.salt
        return [n for n in everything if is_in_share(_routed_by(subjects[n]), share, salt)]

    def _asked_beside(
        self,
        question: Question,
        champion: LoadedVersion,
        candidate: LoadedVersion,
        for_canary: list[int],
        took: float,
    ) -> list[Given]:
        """Who did not answer is asked now where that is quick, else after the caller has the answer."""
        rest = [n for n in range(len(question.rows)) if n not in set(for_canary)]
        given = []
        for version, positions in ((candidate, rest), (champion, for_canary)):
            if not positions:
                continue
            expected = version.seconds_per_row * len(positions)
            if expected < max(AT_ONCE_SECONDS, took):
                given.append(self._ask_shadow(question, version, positions))
            else:
                self.ask_later(Beside(question, version, positions))
        return given

    def _ask_shadow(self, question: Question, version: LoadedVersion, positions: Sequence[int]) -> Given:
        try:
            given = self._ask(question, version, "shadow", positions)
        # A shadow may fail in any way: nobody waits for it.
        except Exception as error:  # noqa: BLE001
            self._note_failure(version, len(positions))
            return Given(version, "shadow", positions, None, describe_failure(error))
        self.figures.of(version.deployment, version.number).n_beside += len(positions)
        return given

    def _ask(self, question: Question, version: LoadedVersion, role: Role, positions: Sequence[int]) -> Given:
        rows = question.rows
        asked = rows if len(positions) == len(rows) else [rows[position] for position in positions]
        answers = version.ask(asked)
        seconds = answers.microseconds * len(positions) / 1e6
        self.figures.of(version.deployment, version.number).model_seconds += seconds
        return Given(version, role, positions, answers)

    def _note_failure(self, version: LoadedVersion, n_rows: int) -> None:
        self.figures.of(version.deployment, version.number).failed("MODEL_FAILED", n_rows)

    # -- logging and answering -------------------------------------------------------------------------

    def _logged(self, question: Question, given: list[Given], answering: list[Given]) -> bytes:
        """Log everything in one write, then put the answers in the order of the rows."""
        records: list[Record] = []
        for each in given:
            records += self._records(question, each)
        ids = self.recorder.append(records)
        answers: list[Any] = [None] * len(question.rows)
        place = 0
        for each in answering:
            for offset, position in enumerate(each.positions):
                name = None if ids is None else ids[place]
                answers[position] = _answer(each, offset, name)
                place += 1
        return _encode(answers if question.is_list else answers[0])

    def _records(self, question: Question, given: Given) -> list[Record]:
        if given.answers is None:
            return [self._failure(question, given, position) for position in given.positions]
        version, answers, names = given.version, given.answers, question.served.names
        probabilities = answers.probabilities
        records: list[Record] = []
        for offset, position in enumerate(given.positions):
            subject = question.subjects[position]
            records.append(
                Prediction(
                    version.deployment,
                    version.number,
                    given.role,
                    question.now,
                    subject.event_time,
                    subject.key,
                    subject.entity,
                    names,
                    tuple(map(question.rows[position].get, names)),
                    answers.predicted[offset],
                    None if probabilities is None else probabilities[offset],
                    question.request,
                    answers.microseconds,
                    answers.unseen[offset],
                )
            )
        return records

    def _failure(self, question: Question, given: Given, position: int) -> Failure:
        subject, version = question.subjects[position], given.version
        return Failure(
            version.deployment,
            version.number,
            given.role,
            question.now,
            subject.event_time,
            subject.key,
            question.request,
            given.error,
        )


def _answer(given: Given, offset: int, prediction_id: str | None) -> dict[str, Any]:
    answers, version = given.answers, given.version
    assert answers is not None, "only who answered is told of"  # noqa: S101
    answer: dict[str, Any] = {"prediction": answers.predicted[offset]}
    if answers.probabilities is not None and version.class_names is not None:
        answer["probabilities"] = dict(zip(version.class_names, answers.probabilities[offset], strict=True))
    answer["prediction_id"] = prediction_id
    answer["model"] = version.deployment
    answer["version"] = version.number
    return answer


def _routed_by(subject: Subject) -> object:
    return subject.key if subject.entity is None else subject.entity


def _refused(error: WrongRow, question: Question, position: int, version: LoadedVersion) -> Refused:
    where = f"Row {position}: " if question.is_list else ""
    column, row = error.error.column, question.rows[position]
    code = "MISSING_FIELD" if column not in row else "WRONG_VALUE"
    # What the model itself could not take is told in words for whoever made it, not for whoever asks it.
    is_of_model = bool(error.error.rows) and column in row
    message = _untakable(column, row[column], version) if column and is_of_model else str(error)
    return wrong_row(code, f"{where}{message}", row=position, field=column, is_list=question.is_list)


def _untakable(column: str, value: object, version: LoadedVersion) -> str:
    who = f"version {version.number} of {version.deployment!r} cannot take"
    if value is None:
        return f"{column!r} is null, which {who}: in its training the value was always known. Send the value."
    return f"{column!r} is {value!r}, which {who}: its training had no such value. Send one that it had."
