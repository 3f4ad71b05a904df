"""What a worker serves by at one moment: replaced as a whole, never changed."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from clew.entities import Route
from clew.errors import did_you_mean
from clew.serving.answering import LoadedVersion
from clew.serving.columns import Columns
from clew.serving.refusals import LATER, Refused


@dataclass(frozen=True, slots=True)
class Served:
    """A deployment and who answers for it.

    Attributes
    ----------
    names
        The columns whose values are logged with each answer.
    failure
        Why the champion could not be loaded, when nothing answers because of that.
    threshold
        The decision threshold in force; None where the most probable class is answered.
    places
        By version where its positive class stands, and where the other; empty without a threshold.
    """

    name: str
    columns: Columns
    names: tuple[str, ...]
    route: Route | None = None
    champion: LoadedVersion | None = None
    candidate: LoadedVersion | None = None
    failure: str | None = None
    threshold: float | None = None
    places: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    def answering(self) -> LoadedVersion:
        """The champion.

        Raises
        ------
        Refused
            410 when the model is retired, 503 with what it waits for when nothing can answer yet.
        """
        if self.route is not None and self.route.stage == "retired":
            raise Refused(
                410, "MODEL_RETIRED", f"The model {self.name!r} is retired; nothing answers for it."
            )
        if self.champion is not None:
            return self.champion
        waiting = self.failure or self._waits_for()
        raise Refused(
            503, "MODEL_NOT_READY", f"The model {self.name!r} cannot answer yet: {waiting}.", headers=LATER
        )

    def _waits_for(self) -> str:
        if self.route is None:
            return "it waits for its first champion; how far that is says: clew status"
        # Only a first version that the gate failed leaves a route on which nobody answers.
        return (
            "its first version failed the gate, and it waits for a person to say who answers: clew why"
            f" {self.name}, then clew promote {self.name} VERSION --reason '…'"
        )


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All deployments by name, and the tokens (name by SHA-256 in hex) that may ask."""

    generation: int = 0
    deployments: Mapping[str, Served] = field(default_factory=dict)
    tokens: tuple[tuple[str, str], ...] = ()

    def deployment(self, name: str) -> Served:
        """The deployment of that name.

        Raises
        ------
        Refused
            404 with the nearest name.
        """
        served = self.deployments.get(name)
        if served is None:
            hint = did_you_mean(name, self.deployments) if self.deployments else "There is none yet."
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"There is no model {name!r}. {hint}")
        return served

    def token_name(self, digest: str) -> str | None:
        """Whose token has this digest; compared with every one, in a time that tells nothing."""
        found = None
        for known, name in self.tokens:
            if hmac.compare_digest(known, digest):
                found = name
        return found
