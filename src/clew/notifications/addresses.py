"""Where a webhook may lead: a name is looked up once, and judged by its address before anybody connects.

Whoever may write a webhook's URL, or answers for its name, could otherwise have Clew post into the private
network it runs in.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

from clew.notifications.failures import DeliveryFailed

Lookup: TypeAlias = Callable[[str, int], Sequence[str]]
"""From a host and a port to addresses; raises OSError when there are none."""

_NAT64 = IPv6Network("64:ff9b::/96")
"""IPv6 addresses whose last four bytes are the IPv4 address that is meant (RFC 6052)."""


def look_up(host: str, port: int) -> list[str]:
    """What this machine's resolver says."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def addresses_of(host: str, port: int, *, allow_private: bool, seconds: float, lookup: Lookup) -> list[str]:
    """The addresses of a host that may be connected to, in the resolver's order.

    Raises
    ------
    DeliveryFailed
        When the name has none within so many seconds, or none that is allowed.
    """
    found = _within(seconds, host, port, lookup)
    allowed = [address for address in found if allow_private or is_public(address)]
    if not allowed:
        raise DeliveryFailed(
            f"{host} is {found[0]}, which is no public address. If it is meant so, set allow_private = true"
            " in [notifications] of clew.toml"
        )
    return allowed


def is_public(address: str) -> bool:
    """Whether everybody reaches the same machine there: not private, loopback, link-local or multicast.

    An IPv6 address that only carries an IPv4 address is judged by that.

    Examples
    --------
    >>> [is_public(address) for address in ("93.184.216.34", "10.0.0.7", "127.0.0.1", "169.254.169.254")]
    [True, False, False, False]
    >>> is_public("::ffff:127.0.0.1"), is_public("fe80::1%eth0"), is_public("2606:4700::1")
    (False, False, True)
    """
    meant = _meant(ip_address(address.partition("%")[0]))
    return meant.is_global and not meant.is_multicast and not meant.is_reserved


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address


def _within(seconds: float, host: str, port: int, lookup: Lookup) -> list[str]:
    """The resolver has time limits of its own, which may be longer; it is left to them."""
    answers: queue.Queue[list[str] | OSError] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(list(lookup(host, port)))
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError("it is no name of a host"))

    threading.Thread(target=ask, name="look up a webhook", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise DeliveryFailed(f"the name {host} could not be looked up within {seconds:g} s") from None
    if isinstance(answer, OSError) or not answer:
        reason = getattr(answer, "strerror", None) or "it has no address"
        raise DeliveryFailed(f"the name {host} could not be looked up: {reason}")
    return answer
