from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clew.errors import NotFound
from clew.storage import Store
from clew.tracking import capture_environment, get_environment
from tests.tracking.conftest import NOW

SECRET = "hunter2-in-the-environment"


def install(folder: Path, name: str, version: str) -> Path:
    installed = folder / f"{name}-{version}.dist-info"
    installed.mkdir()
    told = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: a line of the description\n"
    (installed / "METADATA").write_text(told, encoding="utf-8")
    (installed / "RECORD").write_text(f"{name}.py,sha256=abc,12\n", encoding="utf-8")
    return installed


def test_the_same_environment_has_the_same_id_in_another_process(store: Store) -> None:
    here = capture_environment(store, now=NOW, variables={})
    code = "from clew.tracking import environment as e; print(e.environment_detail({}).decode())"
    # The order of a set differs between processes by its hash seed.
    there = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
    )
    assert json.loads(there.stdout) == get_environment(store, here)


def test_what_matters_for_results_is_recorded(store: Store) -> None:
    detail = get_environment(store, capture_environment(store, now=NOW))
    packages = {package["name"]: package for package in detail["packages"]}
    assert packages["numpy"]["version"] == np.__version__
    assert len(packages["numpy"]["record"]) == 64
    assert detail["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert detail["variables"]["OMP_NUM_THREADS"] == "1"
    assert detail["processor"]["flags"]


def test_threads_of_the_training_process_make_another_environment(store: Store) -> None:
    one = capture_environment(store, now=NOW, variables={"OMP_NUM_THREADS": "1"})
    four = capture_environment(store, now=NOW, variables={"OMP_NUM_THREADS": "4"})
    assert one != four


def test_no_secret_of_the_environment_is_stored(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "CLEW_TOKEN", "DATABASE_URL", "OMP_SECRET", "LANGUAGE_KEY"):
        monkeypatch.setenv(name, SECRET)
    found = get_environment(store, capture_environment(store, now=NOW))
    assert SECRET not in json.dumps(found)
    assert not any(SECRET.encode() in path.read_bytes() for path in store.folder.rglob("*") if path.is_file())


def test_where_an_editable_package_comes_from_is_not_stored(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    installed = install(tmp_path, "weather", "1.2")
    origin = {"url": f"https://ada:{SECRET}@example.org/weather.git", "dir_info": {"editable": True}}
    (installed / "direct_url.json").write_text(json.dumps(origin), encoding="utf-8")
    detail = get_environment(store, capture_environment(store, now=NOW))
    weather = next(package for package in detail["packages"] if package["name"] == "weather")
    assert weather["is_editable"]
    assert SECRET not in json.dumps(detail)


def test_capturing_again_takes_no_time_to_speak_of(store: Store) -> None:
    capture_environment(store, now=NOW)
    start = time.perf_counter()
    for _ in range(20):
        capture_environment(store, now=NOW)
    assert (time.perf_counter() - start) / 20 < 0.05


def test_what_is_installed_later_is_seen(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = capture_environment(store, now=NOW)
    install(tmp_path, "weather", "1.2")
    after = capture_environment(store, now=NOW)
    assert after != before
    assert {"weather": "1.2"}.items() <= {
        package["name"]: package["version"] for package in get_environment(store, after)["packages"]
    }.items()


def test_an_unknown_environment_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="No environment has an id that begins with 'abc'"):
        get_environment(store, "abc")
