"""Who may ask: the one check that every route of a worker passes through."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from clew.config import ServingSettings
from clew.serving.refusals import Refused
from clew.serving.routing_table import RoutingTable

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_UNAUTHORISED = {"WWW-Authenticate": "Bearer"}


class Door:
    """Lets requests in by the name they call the server by, the page they come from, and their token.

    A browser can be led to send requests to this machine by any page: such a request names a foreign
    ``Origin``, or calls the server by a foreign ``Host``.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self._hosts = {host.encode().lower() for host in known_hosts(settings)}
        # Most requests call the server by one of a few names; port and all they are looked up at once.
        self._seen: dict[bytes, bool] = {}

    def admit(self, headers: Mapping[bytes, bytes], table: RoutingTable, *, needs_token: bool) -> str:
        """The name of the caller's token; empty where none is needed.

        Raises
        ------
        Refused
            403 for a foreign host or origin, 401 for a token that is missing, unknown or revoked.
        """
        host = headers.get(b"host", b"")
        if not self._is_known(host):
            raise Refused(
                403,
                "FOREIGN_HOST",
                f"The request calls this server {host.decode('latin-1')!r}, by which it is not known. Allow"
                " the name in clew.toml: [serving] allowed_hosts.",
            )
        origin = headers.get(b"origin")
        if origin is not None and not self._is_known(origin.partition(b"://")[2]):
            raise Refused(
                403,
                "FOREIGN_ORIGIN",
                f"The request comes from a page of {origin.decode('latin-1')!r}, which may not ask.",
            )
        return self._caller(headers.get(b"authorization", b""), table) if needs_token else ""

    def _is_known(self, host: bytes) -> bool:
        known = self._seen.get(host)
        if known is None:
            known = re.sub(rb":\d+\Z", b"", host).lower() in self._hosts
            if known and len(self._seen) < 1000:
                self._seen[host] = True
        return known

    def _caller(self, authorization: bytes, table: RoutingTable) -> str:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            message = "The request has no token. Send it as the header: Authorization: Bearer TOKEN"
            raise Refused(401, "UNAUTHENTICATED", message, headers=_UNAUTHORISED)
        name = table.token_name(hashlib.sha256(token.strip()).hexdigest())
        if name is None:
            message = "The token is unknown or was revoked. List the tokens with: clew token list"
            raise Refused(401, "UNAUTHENTICATED", message, headers=_UNAUTHORISED)
        return name


def known_hosts(settings: ServingSettings) -> Iterable[str]:
    """The names by which requests may call a server.

    Examples
    --------
    >>> sorted(known_hosts(ServingSettings(host="10.0.0.7", allowed_hosts=("models.example",))))
    ['10.0.0.7', '127.0.0.1', '[::1]', 'localhost', 'models.example']
    """
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return {*LOCAL_HOSTS, host, *settings.allowed_hosts}
