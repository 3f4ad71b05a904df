"""``clew data diff``, ``log``, ``checkout`` and ``verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clew.cli.commands import Explained, option
from clew.cli.lived import refuse_unwritable_report, report_option, typed_command
from clew.cli.terminal import answer
from clew.cli.values import WHICH, json_option, limit_option
from clew.cli.verbs import data_folders

if TYPE_CHECKING:
    from clew.datasets.verify import SnapshotCheck
    from clew.entities import Snapshot
    from clew.loop.data_log import DataLogEntry
    from clew.storage import Store

SNAPSHOT = (
    "A snapshot is named DATASET (its newest), DATASET@ID, DATASET@2026-03-01 (the newest of that day's\
 end, UTC), or by its id alone; of an id the first letters do."
)


@click.command(
    "diff",
    cls=Explained,
    example="clew data diff rides\n  clew data diff rides@2026-03-01 rides --report diff.html",
    help=f"""Show what differs between two snapshots: rows by key, cells, columns, distributions; or files.

    THEN alone is compared with the newest snapshot of its dataset; the name of a dataset alone compares its
    newest with the one before. How far a column moved is the share of rows that would have to change bin,
    over all rows of both.

    {SNAPSHOT}
    """,
)
@click.argument("then", metavar="THEN")
@click.argument("now", metavar="[NOW]", required=False)
@option(
    "--limit",
    type=click.IntRange(0),
    metavar="NUMBER",
    default=20,
    purpose=WHICH,
    help="Show at most this many changed rows and keys; all are counted.",
)
@report_option
@json_option
def diff(then: str, now: str | None, limit: int, report: Path | None, as_json: bool) -> None:
    from clew.cli.data_diff import show_data_diff
    from clew.cli.records import records_here
    from clew.cli.terminal import say
    from clew.datasets.folders import folder_or_none
    from clew.loop.data_diff import data_diff

    refuse_unwritable_report(report)
    with records_here() as records:
        if folder_or_none(records.store, then) is not None:
            _refuse_for_folder(report is not None, "--report")
            data_folders.diff(records.store, then, now, as_json)
            return
        found = data_diff(records.store, *_both(records.store, then, now), limit=limit)
    place = None if report is None else report.resolve()
    if place is not None:
        from clew.cli.report.data_page import write_data_page

        write_data_page(found, place, command=typed_command())

    def show() -> None:
        show_data_diff(found)
        if place is not None:
            say(f"\nReport: {place}")

    answer(as_json, {"diff": found, "report": place}, show)


def _refuse_for_folder(is_given: bool, option: str) -> None:
    if is_given:
        raise click.UsageError(f"{option} is for tables; this is a folder of files.")


def _both(store: Store, then: str, now: str | None) -> tuple[Snapshot, Snapshot]:
    from clew.datasets import find_snapshot, list_datasets, snapshot_log
    from clew.errors import NotFound

    if now is not None:
        return find_snapshot(store, then), find_snapshot(store, now)
    if then not in [each.name for each in list_datasets(store)]:
        older = find_snapshot(store, then)
        return older, find_snapshot(store, older.dataset)
    entries = snapshot_log(store, then)
    if len(entries) < 2:
        raise NotFound(f"{then} has one snapshot only; there is nothing to compare it with yet.")
    return entries[1].snapshot, entries[0].snapshot


@click.command("log", cls=Explained, example="clew data log rides")
@click.argument("dataset", metavar="[DATASET]", required=False)
@limit_option
@json_option
def log(dataset: str | None, limit: int, as_json: bool) -> None:
    """Show the history of a dataset or a folder: its snapshots, what each added, and what was made of it.

    DATASET may be left out where there is only one. New bytes are those of parts that no earlier snapshot
    has; snapshots share the parts that they have in common.
    """
    from clew.cli.records import records_here
    from clew.datasets import list_datasets
    from clew.datasets.folders import latest_folder, list_folders
    from clew.errors import UsageError
    from clew.loop.data_log import data_log

    with records_here() as records:
        known = [each.name for each in list_datasets(records.store)]
        known += dict.fromkeys(each.dataset for each in list_folders(records.store))
        if dataset is None and len(known) != 1:
            raise UsageError(
                f"Which dataset? There are {', '.join(known)}." if known else "There is none yet."
            )
        named = dataset or known[0]
        if latest_folder(records.store, named) is not None:
            data_folders.log(records.store, named, limit, as_json)
            return
        entries = data_log(records.store, named)
    answer(as_json, {"dataset": named, "log": entries[:limit]}, lambda: show_log(named, entries, limit))


def show_log(dataset: str, entries: list[DataLogEntry], limit: int) -> None:
    from clew.cli.terminal import say, show_table
    from clew.cli.words import counted, day, size

    show_table(
        ["taken", "snapshot", "rows", "more", "to", "bytes", "new", "runs", "versions"],
        [
            [
                f"{entry.taken_at:%Y-%m-%d %H:%M}",
                entry.snapshot[:12],
                f"{entry.n_rows:,}",
                "" if entry.n_more_rows is None else f"{entry.n_more_rows:+,}".replace("-", "−"),
                "" if entry.last_time is None else day(entry.last_time),
                size(entry.n_bytes),
                size(entry.n_new_bytes),
                entry.n_runs or "",
                _some(entry.versions),
            ]
            for entry in entries[:limit]
        ],
        right=["rows", "more", "bytes", "new", "runs"],
    )
    if len(entries) > limit:
        say(f"and {counted(len(entries) - limit, 'older one')}; see them with --limit {len(entries)}")
    if len(entries) > 1:
        say(f"\nWhat the newest changed: clew data diff {dataset}")


def _some(versions: tuple[str, ...]) -> str:
    shown = ", ".join(versions[:3])
    return shown if len(versions) <= 3 else f"{shown} and {len(versions) - 3} more"


@click.command(
    "checkout",
    cls=Explained,
    example="clew data checkout rides@2026-03-01 rides-march.parquet",
    help=f"""Write a snapshot's rows to a Parquet or CSV file, or lay its files out in a folder.

    FILE ends in .parquet, .pq, .csv or .csv.gz, and appears whole or not at all. Rows are in the snapshot's
    order, times in UTC. A folder must not be there yet.

    {SNAPSHOT}
    """,
)
@click.argument("reference", metavar="SNAPSHOT")
@click.argument("destination", metavar="FILE", type=click.Path(path_type=Path))
@option("--force", is_flag=True, purpose="Output", help="Replace a file that is there.")
@json_option
def checkout(reference: str, destination: Path, force: bool, as_json: bool) -> None:
    from clew.cli.records import records_here
    from clew.cli.terminal import say
    from clew.cli.words import counted, size
    from clew.datasets import checkout_snapshot, find_snapshot
    from clew.datasets.folders import folder_or_none

    with records_here() as records:
        folder = folder_or_none(records.store, reference)
        if folder is not None:
            _refuse_for_folder(force, "--force")
            data_folders.checkout(records.store, folder, destination, as_json)
            return
        snapshot = find_snapshot(records.store, reference)
        n_bytes = checkout_snapshot(records.store, snapshot, destination, force=force)
    told = {"dataset": snapshot.dataset, "snapshot": snapshot.id, "n_rows": snapshot.n_rows}
    told |= {"file": destination.absolute(), "n_bytes": n_bytes}
    sentence = (
        f"{destination} holds {counted(snapshot.n_rows, 'row')} of {snapshot.dataset}@{snapshot.id[:12]}"
        f" ({size(n_bytes)})."
    )
    answer(as_json, told, lambda: say(sentence))


@click.command(
    "verify",
    cls=Explained,
    example="clew data verify rides",
    help=f"""Read every part of a snapshot again and hash it, its rows and its name; or its files.

    Without SNAPSHOT of every one in the store. Ends with 1 when a part is lost or damaged, and says which
    rows it holds and how to mend it. Rows that were erased by clew forget are no damage.

    {SNAPSHOT}
    """,
)
@click.argument("reference", metavar="[SNAPSHOT]", required=False)
@json_option
def verify(reference: str | None, as_json: bool) -> int:
    from clew.cli.records import records_here
    from clew.datasets import find_snapshot, list_snapshots, verify_snapshot
    from clew.datasets.folders import folder_or_none, list_folders, verify_folder

    with records_here() as records:
        store = records.store
        folder = None if reference is None else folder_or_none(store, reference)
        if reference is None:
            tables, folders = list_snapshots(store), list_folders(store)
        else:
            tables, folders = ([], [folder]) if folder else ([find_snapshot(store, reference)], [])
        checks = [verify_snapshot(store, each) for each in tables]
        of_folders = {f"{each.dataset}@{each.id[:12]}": verify_folder(store, each) for each in folders}
    is_whole = all(each.is_whole for each in checks) and all(each.is_whole for each in of_folders.values())

    def show() -> None:
        show_checks(checks)
        data_folders.show_checks(of_folders)

    answer(as_json, {"is_whole": is_whole, "checks": checks, "folders": of_folders}, show)
    return 0 if is_whole else 1


def show_checks(checks: list[SnapshotCheck]) -> None:
    from clew.cli.terminal import say, show_table
    from clew.cli.words import counted, size

    for check in checks:
        name = f"{check.dataset}@{check.snapshot[:12]}"
        if check.is_whole:
            parts = counted(check.n_parts, "part")
            say(f"{name} is whole: {counted(check.n_rows, 'row')} in {parts}, {size(check.n_bytes)}.")
        else:
            say(f"{name} is damaged.", style="bold")
        if check.damaged:
            rows = [
                [
                    each.part,
                    f"{each.first_row:,} to {each.first_row + each.n_rows - 1:,}",
                    each.what,
                    each.file,
                ]
                for each in check.damaged
            ]
            show_table(["part", "rows", "what", "file"], rows)
        for sentence in check.unlike:
            say(f"· {sentence}")
    if any(check.damaged for check in checks):
        say(
            "\nPut back the named files from a backup. Or, while the source still has these rows: remove the"
            " files that are not what they were, and take the snapshot again with: clew try"
        )
    if any(check.unlike for check in checks):
        say("\nThe store's records were changed from outside. Restore the database from a backup.")
