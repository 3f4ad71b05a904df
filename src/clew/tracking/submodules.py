"""Git submodules: which commit of which repository lies where in a project."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

Asked = Callable[..., "bytes | None"]


@dataclass(frozen=True, slots=True)
class Submodule:
    """One submodule; `url` is without name and password, and empty when none is on record."""

    path: str
    commit: str
    url: str

    @property
    def identity(self) -> str:
        """What the thread calls it: another commit is another one."""
        return f"{self.commit} {self.url or '-'} {self.path}"

    @classmethod
    def parse(cls, identity: str) -> Submodule:
        """The submodule that an identity names.

        Examples
        --------
        >>> Submodule.parse("1f0c https://example.org/shared.git lib/shared code")
        Submodule(path='lib/shared code', commit='1f0c', url='https://example.org/shared.git')
        """
        commit, url, path = identity.split(" ", 2)
        return cls(path, commit, "" if url == "-" else url)


Found = tuple[tuple[Submodule, ...], tuple[str, ...]]
NONE: Found = ((), ())


def submodules_of(ask: Asked) -> Found:
    """Those that are checked out, and the paths of those that are not; `ask` puts a question to git."""
    told = (ask("submodule", "status", "--recursive") or b"").decode("utf-8", "surrogateescape")
    urls = _urls((ask("config", "--file", ".gitmodules", "--list", "-z") or b"").decode(errors="replace"))
    found, missing = [], []
    for sign, commit, path in re.findall(r"^([ +U-])([0-9a-f]+) (.+?)(?: \(.*\))?$", told, re.MULTILINE):
        if sign == "-":
            missing.append(path)
        else:
            found.append(Submodule(path, commit, urls.get(path, "")))
    return tuple(found), tuple(missing)


def _urls(listed: str) -> dict[str, str]:
    """The address of each path; ``submodule.NAME.path`` and ``.url`` stand apart in git's file."""
    entries = dict(entry.split("\n", 1) for entry in listed.split("\0") if "\n" in entry)
    paths = {key[: -len(".path")]: value for key, value in entries.items() if key.endswith(".path")}
    return {path: _without_password(entries.get(f"{name}.url", "")) for name, path in paths.items()}


def _without_password(url: str) -> str:
    """An address without who asks, and with no blank in it.

    Examples
    --------
    >>> _without_password("https://ada:secret@example.org/shared.git")
    'https://example.org/shared.git'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    host = parts.netloc.rpartition("@")[2]
    kept = parts._replace(netloc=host).geturl() if parts.scheme else url
    return kept.replace(" ", "%20")
