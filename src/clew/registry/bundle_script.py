"""Verify the rows of an audit log that Clew exported: python verify.py [HASH]

Says which row is not what was written. HASH is one that somebody wrote down elsewhere: one of the rows must
have it. Needs Python's standard library only.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import sys


def faults(folder: pathlib.Path, checkpoint: str = "") -> list[str]:
    chain = json.loads((folder / "chain.json").read_text("ascii"))
    lines = (folder / "rows.jsonl").read_bytes().splitlines()
    found, hashes = [], [chain["before"]]
    newest, place = chain["before"], "the hash before the first row"
    for line in lines:
        row = json.loads(line)
        if row["before"] != newest:
            found.append(f"{place} is not what row {row['sequence']} was written behind")
        newest, place = hashlib.sha256(line).hexdigest(), f"row {row['sequence']}"
        hashes.append(newest)
    if len(lines) != chain["n_rows"]:
        found.append(f"there are {len(lines)} rows and not {chain['n_rows']}")
    if newest != chain["after"]:
        found.append(f"the newest row has the hash {newest} and not {chain['after']}")
    if checkpoint and checkpoint not in hashes:
        found.append(f"no row has the hash {checkpoint}")
    return found


if __name__ == "__main__":
    wrong = faults(pathlib.Path(__file__).resolve().parent, *sys.argv[1:2])
    sys.stdout.write("\n".join(wrong or ["every row is what was written"]) + "\n")
    sys.exit(3 if wrong else 0)
