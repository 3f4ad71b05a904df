"""What a package consists of: its files, and the digests that name it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

MLMODEL_FILE, EXAMPLE_FILE, PROFILE_FILE = "MLmodel", "input_example.json", "reference_profile.json"
ANSWERS_FILE = "recorded_answers.json"


def package_digest(folder: Path) -> str:
    """The name of a package: a digest of the names and digests of its files."""
    return hashlib.sha256(manifest(folder)).hexdigest()


def manifest(folder: Path) -> bytes:
    """The list of a package's files with their digests, always the same bytes for the same files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): _file_digest(path) for path in files}
    return json.dumps({"format": 0, "files": digests}, sort_keys=True, separators=(",", ":")).encode()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
