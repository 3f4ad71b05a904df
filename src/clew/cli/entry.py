"""The command ``clew`` itself, and how it ends.

Exit codes: 0 done, 1 error, 2 wrong usage, 3 the gate failed, or the audit log, a snapshot or a backup is not
what was written, 4 the gate is undecided, 130 stopped by Ctrl-C. Results go to stdout, everything else to
stderr; with ``--json`` an error too is one JSON document on stdout. The last line on stderr says what to do.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

import click

from clew import __version__
from clew.cli.commands import Reference, Verbs
from clew.errors import ClewError

VERBS = {
    "init": Reference("clew.cli.verbs.init:init", "Make a small project that runs at once."),
    "try": Reference("clew.cli.verbs.try_once:try_once", "Train once and show what the gate says."),
    "backtest": Reference(
        "clew.cli.verbs.backtest:backtest", "Replay history through the whole loop, as if it were live."
    ),
    "up": Reference("clew.cli.verbs.up:up", "Run everything: the loop, predictions, the control server."),
    "status": Reference(
        "clew.cli.verbs.status:status", "Show how every model stands, or what one MODEL lived through."
    ),
    "promote": Reference("clew.cli.verbs.steer:promote", "Make a version the champion of its model."),
    "rollback": Reference("clew.cli.verbs.steer:rollback", "Go back to an earlier champion."),
    "pause": Reference("clew.cli.verbs.steer:pause", "Let the loop leave a model alone; it answers on."),
    "resume": Reference("clew.cli.verbs.steer:resume", "Let the loop go on with a model."),
    "retrain": Reference("clew.cli.verbs.steer:retrain", "Order a candidate, which has to earn its place."),
    "retire": Reference("clew.cli.verbs.steer:retire", "Take a model out of service; promote undoes it."),
    "threshold": Reference(
        "clew.cli.verbs.steer:threshold", "Change from which probability on the positive class is answered."
    ),
    "token": Reference("clew.cli.verbs.token:token", "Say who may ask a running system."),
    "predict": Reference("clew.cli.verbs.predict:predict", "Answer for the rows of a table."),
    "reproduce": Reference(
        "clew.cli.verbs.reproduce:reproduce", "Train a version again from its record, and compare."
    ),
    "trace": Reference(
        "clew.cli.verbs.trace:trace",
        "Follow the thread from anything to what made it, or to what came of it.",
    ),
    "why": Reference(
        "clew.cli.verbs.why:why", "Say why the loop decided what it decided, or why a key was answered so."
    ),
    "runs": Reference("clew.cli.verbs.runs:runs", "Look at trainings."),
    "models": Reference("clew.cli.verbs.models:models", "Look at models and their versions."),
    "data": Reference(
        "clew.cli.verbs.data:data",
        "Look at snapshots of datasets, compare them, get them back; keep folders of files.",
    ),
    "audit": Reference("clew.cli.verbs.audit:audit", "Look at who changed what, and prove it."),
    "forget": Reference("clew.cli.verbs.forget:forget", "Erase a person from snapshots, log and loops."),
    "backup": Reference(
        "clew.cli.verbs.backup:backup", "Copy the whole store into a folder, beside a running clew up."
    ),
    "restore": Reference("clew.cli.verbs.backup:restore", "Make the store what it was at a backup."),
    "gc": Reference("clew.cli.verbs.gc:gc", "Say what of the store nobody needs, and remove it."),
}
PURPOSES = {
    "Begin": ["init", "try", "backtest"],
    "Run": ["up", "status", "token", "predict"],
    "Steer": ["promote", "rollback", "pause", "resume", "retrain", "retire", "threshold"],
    "Ask": ["trace", "why", "reproduce"],
    "Look": ["runs", "models", "data", "audit"],
    "Keep": ["gc", "forget", "backup", "restore"],
}


@click.group(
    cls=Verbs,
    references=VERBS,
    purposes=PURPOSES,
    example="clew init loans\n  cd loans\n  clew backtest",
    context_settings={"max_content_width": 100},
)
@click.version_option(__version__, prog_name="clew", message="%(prog)s %(version)s")
def main() -> None:
    """Keep production models right: version, deploy, monitor and improve them, in one loop.

    Every command has --help with an example, and --json for programs.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line to its end and give its exit code; whatever goes wrong is told in words.

    Parameters
    ----------
    arguments
        What stands behind ``clew``; by default what this process was given.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        _accept_every_character(stream)
    try:
        code = main.main(given, prog_name="clew", standalone_mode=False, obj=given)
        sys.stdout.flush()
    except BrokenPipeError:
        return _leave_quietly()
    except (click.Abort, KeyboardInterrupt):
        return _stopped(given)
    except click.ClickException as error:
        return _wrong_usage(error, given)
    except ClewError as error:
        return _refused(error, given)
    except Exception:  # noqa: BLE001  The last door: whoever typed the command is told, with the traceback.
        return _fault(given)
    return code if isinstance(code, int) else 0


def _accept_every_character(stream: object) -> None:
    # A terminal or log that cannot show "–" must not end a command that took an hour.
    if hasattr(stream, "reconfigure") and getattr(stream, "encoding", "utf-8").lower() != "utf-8":
        stream.reconfigure(errors="replace")


def _leave_quietly() -> int:
    """Whoever read our output has heard enough, as in ``clew runs list | head``."""
    # Python flushes stdout once more at its end, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _stopped(given: list[str]) -> int:
    again = shlex.join(["clew", *given])
    _tell(
        given,
        code="CANCELLED",
        message=f"Stopped. What was finished is kept; to go on from there run again: {again}",
    )
    return 130


def _wrong_usage(error: click.ClickException, given: list[str]) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()  # no mistake was made, so none is told
        return 2
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else _verb_path(given)
    message = error.format_message()
    _tell(given, code="INVALID_PARAMETER_VALUE", message=f"{message}\nWhat it takes: {path} --help")
    return 2


def _verb_path(given: list[str]) -> str:
    """The command that was meant, for errors of the parser, which do not say."""
    path = ["clew"]
    command: click.Command | None = main
    for word in given:
        command = command.get_command(click.Context(command), word) if isinstance(command, Verbs) else None
        if command is None:
            break
        path.append(word)
    return " ".join(path)


def _refused(error: ClewError, given: list[str]) -> int:
    traceback = getattr(error, "traceback", "")
    if traceback:
        click.echo(traceback.rstrip() + "\n", err=True)
    _tell(given, code=error.error_code, message=str(error))
    return error.exit_code


def _fault(given: list[str]) -> int:
    import platform
    import traceback

    traceback.print_exc()
    _tell(
        given,
        code="INTERNAL_ERROR",
        message=(
            "This is a fault in Clew itself; nothing half-done was kept.\n"
            "Please report it to Clew's developers with the lines above and these: clew"
            f" {__version__}, Python {platform.python_version()},"
            f" {platform.platform()}, command: {shlex.join(['clew', *given])}"
        ),
    )
    return 1


def _tell(given: list[str], *, code: str, message: str) -> None:
    if "--json" in given:
        from clew.cli.documents import print_document

        print_document({"error": {"code": code, "message": message}})
    else:
        click.secho("Error: ", fg="red", bold=True, err=True, nl=False)
        click.echo(message, err=True)
