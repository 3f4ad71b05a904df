"""What ``.gitignore`` files leave out, read as git reads them, for folders that are no repository."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

IGNORE_FILE = ".gitignore"


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """One line of a ``.gitignore``; `pattern` matches whole paths relative to the project's root."""

    pattern: re.Pattern[str]
    is_exception: bool
    is_for_folders: bool


def rules_of(folder: Path, prefix: str) -> tuple[IgnoreRule, ...]:
    """The rules of the ``.gitignore`` in `folder`, which lies at `prefix` (``""`` or ``"a/b/"``)."""
    try:
        text = (folder / IGNORE_FILE).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ()  # none, or none that git could read either
    found = (_rule(line, prefix) for line in text.splitlines())
    return tuple(rule for rule in found if rule is not None)


def is_left_out(path: str, is_folder: bool, rules: tuple[IgnoreRule, ...]) -> bool:
    """Whether the rules leave a path out: the last one that matches decides."""
    for rule in reversed(rules):
        if (is_folder or not rule.is_for_folders) and rule.pattern.fullmatch(path):
            return not rule.is_exception
    return False


def _rule(line: str, prefix: str) -> IgnoreRule | None:
    line = re.sub(r"(?<!\\) +\Z", "", line)
    if not line or line.startswith("#"):
        return None
    is_exception = line.startswith("!")
    glob = line[is_exception:]
    is_for_folders = glob.endswith("/")
    glob = glob.rstrip("/") if is_for_folders else glob
    if not glob:
        return None
    # A slash at its beginning or within ties a pattern to the folder of its file.
    anywhere = "" if "/" in glob else "(?:.*/)?"
    try:
        pattern = re.compile(re.escape(prefix) + anywhere + _expression(glob.removeprefix("/")), re.DOTALL)
    except re.error:
        return None  # such as [z-a], which matches nothing
    return IgnoreRule(pattern, is_exception, is_for_folders)


_TOKENS = re.compile(r"(\A\*\*/|/\*\*/|/\*\*\Z|\*+|\?|\[[!^]?\]?[^\]]*\]|\\.|.)", re.DOTALL)


def _expression(glob: str) -> str:
    return "".join(map(_translated, _TOKENS.findall(glob)))


def _translated(token: str) -> str:
    fixed = {"**/": "(?:.*/)?", "/**/": "/(?:.*/)?", "/**": "/.+", "?": "[^/]"}
    if token in fixed:
        return fixed[token]
    if token.startswith("*"):
        return "[^/]*"
    if token.startswith("[") and len(token) > 2:
        inside = re.sub(r"\A!", "^", token[1:-1])
        return f"(?!/)[{inside.replace('[', chr(92) + '[')}]"
    return re.escape(token[1:] if len(token) == 2 and token.startswith("\\") else token)
