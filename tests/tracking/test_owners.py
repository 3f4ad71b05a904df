from __future__ import annotations

import os
import subprocess
import sys

from clew.tracking import is_alive, this_owner


def test_this_process_is_alive_and_another_start_of_its_pid_is_not() -> None:
    host, pid, start = this_owner().rsplit(":", 2)
    assert pid == str(os.getpid())
    assert is_alive(this_owner())
    assert not is_alive(f"{host}:{pid}:{start}0")


def test_a_process_is_named_alike_by_itself_and_dies_with_its_name() -> None:
    code = "from clew.tracking import this_owner; print(this_owner(), flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    owner = process.stdout.readline().strip()
    assert is_alive(owner)
    process.communicate("\n")
    assert not is_alive(owner)


def test_a_process_with_odd_characters_in_its_name_is_read_rightly() -> None:
    # /proc/PID/stat holds the program's name in parentheses, with whatever it has in it.
    code = (
        "import ctypes; from clew.tracking import this_owner\n"
        "ctypes.CDLL(None).prctl(15, b') Z 1 (', 0, 0, 0) if hasattr(ctypes.CDLL(None), 'prctl') else None\n"
        "print(this_owner(), flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert is_alive(process.stdout.readline().strip())
    process.communicate("\n")


def test_a_process_of_another_host_counts_as_alive() -> None:
    assert is_alive("another-host.example:1:2")
    assert is_alive("an:odd:host:1:2")
