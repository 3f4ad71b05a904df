"""Make `.venv` hold what the locks say, and do nothing when it already does.

    python tools/bootstrap.py [--with pip]

Needs nothing but Python and its `venv` module. The steps: find a Python that is new enough, make
`.venv` (or mend one that was left half made), install the pinned installer uv, let it sync both locks
(pip does it where uv cannot), install this checkout as an editable package, and last of all write the
stamp. Whatever interrupts it, running it again finishes the work. Two at once take turns.

The file parses under every Python 3, so that an old one is turned away with a sentence.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, List, NoReturn, Optional

OLDEST_PYTHON = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCKS = [ROOT / "requirements.lock", ROOT / "requirements-demo.lock"]
STAMP = VENV / "clew-bootstrap.stamp"
# Beside the environment and not inside it: it must outlast a clearing that is itself interrupted.
UNFINISHED = ROOT / ".venv.unfinished"
LOCK = ROOT / ".venv.lock"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make .venv hold what the locks say.")
    parser.add_argument(
        "--with",
        dest="installer",
        choices=["uv", "pip"],
        default="uv",
        help="what installs the locks (default: uv)",
    )
    installer = parser.parse_args().installer
    refuse_old_python()
    if is_current():
        return
    with one_at_a_time() as lock_fd:
        if not is_current():
            build(installer, lock_fd)


def refuse_old_python() -> None:
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return
    stop(
        "Clew needs Python %d.%d or newer; this is Python %s at %s."
        % (*OLDEST_PYTHON, wanted_python(), sys.executable),
        "Name a newer one, for example: make PYTHON=python3.12 test",
    )


def wanted_python() -> str:
    return "%d.%d.%d" % sys.version_info[:3]


def wanted_stamp() -> str:
    """What the environment is made from; the checkout's place too, as installed scripts name it."""
    made_from = hashlib.sha256(b"clew-bootstrap 1\0" + str(ROOT).encode())
    for path in [*LOCKS, ROOT / "pyproject.toml"]:
        made_from.update(b"\0" + path.read_bytes())
    return "%s python %s\n" % (made_from.hexdigest(), wanted_python())


def is_current() -> bool:
    try:
        return STAMP.read_text() == wanted_stamp() and PYTHON.exists()
    except FileNotFoundError:
        return False


def build(installer: str, lock_fd: int) -> None:
    started = time.monotonic()
    # Removed first: from here until the end the environment promises nothing.
    with contextlib.suppress(FileNotFoundError):
        STAMP.unlink()
    reuse = is_usable()
    UNFINISHED.touch()
    if not reuse:
        make_venv()
    if installer == "pip" or not sync_with_uv(lock_fd):
        sync_with_pip(lock_fd)
    UNFINISHED.unlink()
    install_checkout(lock_fd)
    write_stamp()
    say("Ready in %.0f s." % (time.monotonic() - started))


def is_usable() -> bool:
    """Whether the environment's own Python starts, has pip and is the version that runs this.

    One whose packages were being installed when something ended the process is not: any file of it,
    pip's own included, may be half there. Downloads are cached, so making it anew costs little.
    """
    if UNFINISHED.exists() or not PYTHON.exists():
        return False
    question = "import pip, sys; print('%d.%d.%d' % sys.version_info[:3])"
    answer = subprocess.run([str(PYTHON), "-c", question], check=False, capture_output=True, text=True)
    return answer.returncode == 0 and answer.stdout.strip() == wanted_python()


def make_venv() -> None:
    say("Making .venv with Python %s ..." % wanted_python())
    try:
        import ensurepip  # noqa: F401  (Debian and Ubuntu ship it in a package of its own)
        import venv
    except ImportError as missing:
        stop(
            "This Python (%s) has no %s module, so it cannot make an environment."
            % (sys.executable, missing.name),
            "On Debian or Ubuntu: sudo apt install python%d.%d-venv. Or name another: make PYTHON=... test"
            % sys.version_info[:2],
        )
    venv.EnvBuilder(with_pip=True, clear=True, symlinks=True).create(str(VENV))


def sync_with_uv(lock_fd: int) -> bool:
    """Whether uv brought the environment to exactly what the locks say."""
    pinned = pinned_uv()
    if pinned is None:
        say("requirements.lock pins no uv; going on with pip.")
        return False
    say("Installing the locked packages ...")
    requirement = VENV / "uv.requirement"
    requirement.write_text(pinned)
    if not ran([*pip_install(), "--no-deps", "--require-hashes", "-r", str(requirement)], lock_fd):
        say("uv could not be installed; going on with pip, which takes longer.")
        return False
    sync = ["pip", "sync", "--quiet", "--python", str(PYTHON), "--require-hashes", "--compile-bytecode"]
    if not ran([str(UV), *sync, *[str(lock) for lock in LOCKS]], lock_fd):
        say("uv could not install the locks; going on with pip, which takes longer.")
        return False
    return True


def pip_install() -> List[str]:
    return [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]


def pinned_uv() -> Optional[str]:
    """The lock's own lines about uv: version and hashes stand in one place only."""
    lines: List[str] = []
    for line in LOCKS[0].read_text().splitlines():
        if line.startswith("uv==") or (lines and line.startswith("    --hash")):
            lines.append(line)
        elif lines:
            break
    return "\n".join(lines) + "\n" if lines else None


def sync_with_pip(lock_fd: int) -> None:
    say("Installing the locked packages with pip ...")
    locks = [argument for lock in LOCKS for argument in ("-r", str(lock))]
    # The locks are complete, so nothing is resolved: what they do not name is not installed.
    if not ran([*pip_install(), "--no-deps", "--require-hashes", *locks], lock_fd):
        stop(
            "The locked packages could not be installed; pip's reason stands above.",
            "Is the package index reachable from here? Then run the same command again; downloads are kept.",
        )


def install_checkout(lock_fd: int) -> None:
    say("Installing this checkout ...")
    arguments = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    if not ran([*pip_install(), *arguments], lock_fd):
        stop(
            "This checkout could not be installed; pip's reason stands above.",
            "Mend what it names (often pyproject.toml), then run the same command again.",
        )


def write_stamp() -> None:
    unfinished = STAMP.with_suffix(".new")
    unfinished.write_text(wanted_stamp())
    unfinished.replace(STAMP)


def ran(command: List[str], lock_fd: int) -> bool:
    """Whether the command ended well; what it has to say goes where our own output goes.

    It holds the lock too: should this process be killed, the next one waits until the command it left
    behind no longer writes into the environment.
    """
    # Variables of an active environment would send packages elsewhere.
    misleading = {"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME"}
    env = {name: value for name, value in os.environ.items() if name not in misleading}
    try:
        return (
            subprocess.run(
                command, check=False, stdin=subprocess.DEVNULL, env=env, pass_fds=[lock_fd]
            ).returncode
            == 0
        )
    except OSError as failure:
        say("%s did not start: %s" % (command[0], failure))
        return False


@contextlib.contextmanager
def one_at_a_time() -> Iterator[int]:
    """Hold the lock file, given as its descriptor; the system lets go of it when its last holder ends."""
    with LOCK.open("a") as lock:
        wait_for(lock.fileno())
        yield lock.fileno()


def wait_for(lock_fd: int) -> None:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Another bootstrap is at work here; waiting for it ...")
        fcntl.flock(lock_fd, fcntl.LOCK_EX)


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def stop(what_happened: str, what_to_do: str) -> NoReturn:
    say(what_happened)
    say(what_to_do)
    sys.exit(1)


if __name__ == "__main__":
    main()
