"""The sockets that ``clew up`` opens itself, so that they outlive every process that answers on them."""

from __future__ import annotations

import errno
import socket

from clew.errors import SettingsError

BACKLOG = 1024
SHOWN_COMMAND = 80


def open_socket(host: str, port: int, option: str) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Parameters
    ----------
    option
        How another port is chosen, for the message.

    Raises
    ------
    SettingsError
        When the port is taken, by whom as far as that can be seen, or the address is none of this machine.
    """
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind)
    except OSError as error:
        raise SettingsError(f"{host!r} is no address of this machine: {error.strerror}.") from error
    try:
        # A restarted server may listen again at once, though old connections still die away.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(where)
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise SettingsError(_refusal(error, host, port, option)) from error
    return opened


def _refusal(error: OSError, host: str, port: int, option: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is taken{_holder(port)}. End that, or choose another with {option}."
    if error.errno == errno.EACCES:
        return f"Port {port} needs more rights than this user has. Choose one above 1023 with {option}."
    return f"{host}:{port} cannot be listened on: {error.strerror}. Choose another with --host or {option}."


def _holder(port: int) -> str:
    """Who listens on the port, as far as this user may see."""
    import psutil

    try:
        found = psutil.net_connections("tcp")
    except psutil.Error:
        return ""
    for each in found:
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid:
            try:
                command = " ".join(psutil.Process(each.pid).cmdline())
            except psutil.Error:
                return f" by process {each.pid}"
            return f" by process {each.pid} ({command[:SHOWN_COMMAND]})"
    return ""
