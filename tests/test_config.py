from __future__ import annotations

from pathlib import Path

import pytest

from clew.config import (
    BudgetSettings,
    ObjectSettings,
    Settings,
    find_project,
    load_settings,
    resolve_target,
)
from clew.errors import ClewError, ProjectError, SettingsError

NOTHING: dict[str, str] = {}


def project(folder: Path, toml: str = 'models = ["bikes.py"]\n', *files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clew.toml").write_text(toml, encoding="utf-8")
    for name in files:
        (folder / name).write_text("")
    return folder.resolve()


def loaded(folder: Path, toml: str, environment: dict[str, str] | None = None) -> Settings:
    return load_settings(project(folder, toml), environment or NOTHING)


def refusal(folder: Path, toml: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(folder, toml, environment)
    return str(caught.value)


def refused_target(target: str | None, where: Path) -> str:
    with pytest.raises(ProjectError) as caught:
        resolve_target(target, where, NOTHING)
    return str(caught.value)


# -- settings ------------------------------------------------------------------------------------------


def test_without_a_project_file_everything_has_a_default(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    assert load_settings(tmp_path, NOTHING) == Settings(root=root, store=root / ".clew")


def test_every_setting_of_a_project_file_is_read(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        """
        models = ["bikes.py", "credit.models"]
        store = "state"
        database = "postgresql+psycopg://db/clew"
        [objects]
        url = "s3://bucket/clew"
        options = {endpoint = "http://localhost:9000", allow_http = true, timeout = 30}
        [budget]
        false_pages_per_quarter = 0.5
        fits_per_day = 20
        [params.busy_hour]
        num_leaves = 63
        """,
    )
    root = tmp_path.resolve()
    options = {"endpoint": "http://localhost:9000", "allow_http": "true", "timeout": "30"}
    assert settings == Settings(
        root=root,
        models=("bikes.py", "credit.models"),
        store=root / "state",
        database="postgresql+psycopg://db/clew",
        objects=ObjectSettings("s3://bucket/clew", options),
        budget=BudgetSettings(0.5, 20),
        params={"busy_hour": {"num_leaves": 63}},
    )


def test_a_project_is_found_from_any_folder_below_it(tmp_path: Path) -> None:
    root = project(tmp_path / "bikes")
    deep = root / "data" / "2026"
    deep.mkdir(parents=True)
    assert find_project(deep) == root
    assert load_settings(deep, NOTHING).root == root


def test_the_nearest_project_counts(tmp_path: Path) -> None:
    project(tmp_path)
    inner = project(tmp_path / "inner")
    assert find_project(inner) == inner


def test_a_folder_named_like_the_project_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "clew.toml").mkdir()
    assert find_project(tmp_path) is None


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ('modles = ["bikes.py"]', "clew.toml has no setting 'modles'. Did you mean 'models'?"),
        ("root = 1", "clew.toml has no setting 'root'."),
        (
            "[budget]\nfits_a_day = 3",
            "clew.toml [budget] has no setting 'fits_a_day'. Did you mean 'fits_per_day'?",
        ),
        ('[objects]\nurll = "x"', "clew.toml [objects] has no setting 'urll'. Did you mean 'url'?"),
        ('models = "bikes.py"', "clew.toml: models is 'bikes.py', but it must be a list."),
        ("models = [1]", "clew.toml: an entry of models is 1, but it must be a string."),
        ("store = 3", "clew.toml: store is 3, but it must be a string."),
        ("database = true", "clew.toml: database is True, but it must be a string."),
        ("budget = 3", "clew.toml: budget is 3, but it must be a table."),
        ("objects = 3", "clew.toml: objects is 3, but it must be a table."),
        ("[objects]\nurl = 3", "clew.toml: objects.url is 3, but it must be a string."),
        ('[objects]\noptions = "x"', "clew.toml: objects.options is 'x', but it must be a table."),
        (
            "[objects.options]\nendpoint = [1]",
            "clew.toml: objects.options.endpoint is [1], but it must be a string.",
        ),
        (
            '[budget]\nfalse_pages_per_quarter = "1"',
            "clew.toml: budget.false_pages_per_quarter is '1', but it must be a number.",
        ),
        (
            "[budget]\nfalse_pages_per_quarter = nan",
            "clew.toml: budget.false_pages_per_quarter is nan, but it must be above zero and finite.",
        ),
        ("[budget]\nfits_per_day = 0", "clew.toml: budget.fits_per_day is 0, but it must be above zero"),
        (
            "[budget]\nfits_per_day = true",
            "clew.toml: budget.fits_per_day is True, but it must be a whole number.",
        ),
        (
            "[budget]\nfits_per_day = 2.5",
            "clew.toml: budget.fits_per_day is 2.5, but it must be a whole number.",
        ),
        ("params = 3", "clew.toml: params is 3, but it must be a table."),
        ("[params]\nbusy = 3", "clew.toml: params.busy is 3, but it must be a table."),
    ],
)
def test_a_wrong_setting_is_refused_with_the_right_one(tmp_path: Path, toml: str, expected: str) -> None:
    assert expected in refusal(tmp_path, toml)


@pytest.mark.parametrize("content", [b"models = [", b"\xff\xfe"])
def test_a_project_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clew.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=r"clew\.toml is not valid TOML"):
        load_settings(tmp_path, NOTHING)


# -- the environment -----------------------------------------------------------------------------------


def test_a_secret_comes_from_the_variable_it_names(tmp_path: Path) -> None:
    toml = 'database = "$DB"\nmodels = ["$MODEL"]\n[objects.options]\nsecret_access_key = "$KEY"'
    settings = loaded(tmp_path, toml, {"DB": "postgresql://u:pw@db/clew", "KEY": "hunter2", "MODEL": "a.py"})
    assert settings.database == "postgresql://u:pw@db/clew"
    assert settings.objects.options == {"secret_access_key": "hunter2"}
    assert settings.models == ("a.py",)


def test_a_variable_that_is_not_set_is_named_with_its_place(tmp_path: Path) -> None:
    said = refusal(tmp_path, '[objects.options]\nsecret_access_key = "$S3_KEY"')
    assert "objects: options: secret_access_key is '$S3_KEY'" in said
    assert "the environment variable S3_KEY is not set" in said


def test_secrets_are_never_printed(tmp_path: Path) -> None:
    toml = 'database = "$DB"\n[objects.options]\nsecret_access_key = "$KEY"\naccess_key_id = "AKIA"'
    settings = loaded(tmp_path, toml, {"DB": "postgresql://u:hunter2@db/clew", "KEY": "hunter3"})
    target = resolve_target(None, project(tmp_path), NOTHING)
    shown = f"{settings!r} {settings} {settings.objects!r} {target!r}"
    assert not any(secret in shown for secret in ("hunter2", "hunter3", "AKIA"))


def test_the_store_can_be_moved_by_the_environment(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    settings = loaded(tmp_path / "bikes", 'store = "state"', {"CLEW_STORE": str(elsewhere)})
    assert settings.store == elsewhere


def test_an_empty_variable_does_not_move_the_store_into_the_project(tmp_path: Path) -> None:
    assert loaded(tmp_path, "", {"CLEW_STORE": ""}).store == tmp_path.resolve() / ".clew"


def test_the_process_s_own_environment_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEW_STORE", str(tmp_path / "mine"))
    assert load_settings(tmp_path).store == tmp_path / "mine"


# -- what the user named -------------------------------------------------------------------------------


def test_a_file_of_no_project_belongs_to_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "bikes.py").write_text("")
    target = resolve_target("bikes.py", tmp_path, NOTHING)
    assert (target.settings.root, target.files, target.model) == (tmp_path.resolve(), ("bikes.py",), None)


def test_a_model_of_a_file_is_named_after_a_colon(tmp_path: Path) -> None:
    (tmp_path / "bikes.py").write_text("")
    target = resolve_target("bikes.py:busy_hour", tmp_path, NOTHING)
    assert (target.files, target.model) == (("bikes.py",), "busy_hour")


def test_a_file_below_a_project_is_named_from_its_root(tmp_path: Path) -> None:
    root = project(tmp_path)
    (root / "models").mkdir()
    (root / "models" / "bikes.py").write_text("")
    target = resolve_target("bikes.py", root / "models", NOTHING)
    assert (target.settings.root, target.files) == (root, ("models/bikes.py",))


def test_a_file_elsewhere_brings_its_own_project(tmp_path: Path) -> None:
    here, there = project(tmp_path / "here"), project(tmp_path / "there", "", "bikes.py")
    target = resolve_target(str(there / "bikes.py"), here, NOTHING)
    assert (target.settings.root, target.files) == (there, ("bikes.py",))


def test_nothing_named_means_the_project_of_the_folder(tmp_path: Path) -> None:
    root = project(tmp_path, 'models = ["bikes.py", "credit.models"]')
    target = resolve_target(None, root, NOTHING)
    assert (target.files, target.model) == (("bikes.py", "credit.models"), None)


def test_a_bare_word_names_a_model_of_the_project(tmp_path: Path) -> None:
    root = project(tmp_path, 'models = ["bikes.py", "credit.models"]')
    target = resolve_target("busy_hour", root, NOTHING)
    assert (target.files, target.model) == (("bikes.py", "credit.models"), "busy_hour")


@pytest.mark.parametrize("toml", [None, ""])
def test_outside_of_a_project_a_file_must_be_named(tmp_path: Path, toml: str | None) -> None:
    if toml is not None:
        project(tmp_path, toml)
    said = refused_target(None, tmp_path)
    assert "no clew.toml that names models" in said
    assert "clew try model.py" in said
    assert "clew init" in said


@pytest.mark.parametrize("target", ["rides.ipynb", "rides.ipynb:busy"])
def test_a_notebook_is_told_how_to_become_a_file(tmp_path: Path, target: str) -> None:
    said = refused_target(target, tmp_path)
    assert "jupyter nbconvert --to script rides.ipynb; then: clew try rides.py" in said


def test_a_missing_file_is_answered_with_those_that_are_there(tmp_path: Path) -> None:
    for name in ("bikes.py", "credit.py", "rides.csv"):
        (tmp_path / name).write_text("")
    said = refused_target("bike.py:busy", tmp_path)
    assert said == f"There is no file 'bike.py': the Python files in {tmp_path} are bikes.py, credit.py."


def test_a_missing_file_in_an_empty_folder_says_that_it_is_empty(tmp_path: Path) -> None:
    assert refused_target("bikes.py", tmp_path).endswith(f"{tmp_path} has no Python files.")


def test_a_bare_word_outside_of_a_project_is_taken_for_a_file(tmp_path: Path) -> None:
    assert refused_target("busy_hour", tmp_path).startswith("There is no file 'busy_hour'")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rides.csv").write_text("")
    assert refused_target("rides.csv", tmp_path).startswith("rides.csv is not a Python file")


def test_wrong_settings_end_a_command_as_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(ClewError) as caught:
        loaded(tmp_path, "nonsense = 1")
    assert caught.value.exit_code == 2


# ---------------------------------------------------------------- notifications


def test_notifications_name_where_to_tell_and_what(tmp_path: Path) -> None:
    lines = ['webhook = "$HOOK"', 'secret = "$SECRET"', 'command = ["./tell.sh", "-v"]', 'levels = ["page"]']
    toml = "\n".join(["[notifications]", *lines])
    given = loaded(tmp_path, toml, {"HOOK": "https://me:pw@hooks.example:8443/T0?key=1", "SECRET": "s"})
    told = given.notifications
    assert (told.webhook, told.secret) == ("https://me:pw@hooks.example:8443/T0?key=1", "s")
    assert (told.command, told.levels) == ((str(tmp_path.resolve() / "tell.sh"), "-v"), ("page",))


def test_a_program_without_a_slash_is_looked_for_where_programs_are(tmp_path: Path) -> None:
    toml = '[notifications]\ncommand = ["notify-send", "./a"]\n'
    assert loaded(tmp_path, toml).notifications.command == ("notify-send", "./a")


@pytest.mark.parametrize(
    "webhook",
    [
        *("hunter2", "ftp://hunter2.example", "https://", "https:///hunter2"),
        *("https://hunter2:99999/", "http://hunter2/ x", "http://[hunter2/"),
    ],
)
def test_a_webhook_that_is_no_url_is_refused_without_repeating_it(tmp_path: Path, webhook: str) -> None:
    said = refusal(tmp_path, '[notifications]\nwebhook = "$HOOK"\n', {"HOOK": webhook})
    assert "notifications.webhook is no URL" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('secret = ""', "secret is empty"),
        ('command = [""]', "names no program"),
        ('levels = ["pages"]', "Did you mean 'page'"),
        ('webhok = "x"', "Did you mean 'webhook'"),
        ('allow_private = "yes"', "must be true or false"),
    ],
)
def test_a_wrong_setting_of_notifications_is_refused(tmp_path: Path, line: str, said: str) -> None:
    assert said in refusal(tmp_path, f"[notifications]\n{line}\n")
