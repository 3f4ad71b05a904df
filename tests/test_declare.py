from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import clew
from clew.declare import DatasetSpec, ModelSpec, parse_retrain, parse_rollout
from clew.entities import DatasetDeclaration, Duration, Margin, ModelDeclaration, RolloutStep, Trigger
from clew.errors import DeclarationError

DAY = Duration.parse("1d")


def rides(table: Any) -> Any:
    return table


def busy(train: Any, num_leaves: int = 31) -> Any:
    return ("fitted on", train, num_leaves)


def a_dataset(
    source: Any = "rides.parquet", function: Callable[..., Any] = rides, **changes: Any
) -> DatasetSpec:
    facts = {"time": "ts", "key": "hour_id", "label": "busy", "label_delay": "1d"}
    return clew.dataset(source, **{**facts, **changes})(function)


def a_model(function: Callable[..., Any] = busy, **changes: Any) -> ModelSpec:
    return clew.model(a_dataset(), **{"metric": "accuracy", "margin": 0.01, **changes})(function)


def refusal_of_dataset(*sources: Any, **changes: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        a_dataset(*sources, **changes)
    return str(caught.value)


def refusal_of_model(function: Callable[..., Any] = busy, **changes: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        a_model(function, **changes)
    return str(caught.value)


# -- datasets ------------------------------------------------------------------------------------------


def test_a_dataset_is_declared_by_five_facts() -> None:
    assert a_dataset().declaration == DatasetDeclaration(
        "rides", "ts", "hour_id", "busy", DAY, "rides.parquet"
    )


def test_a_dataset_keeps_every_other_argument() -> None:
    declared = a_dataset(
        entity="city",
        timezone="Europe/Berlin",
        frame="polars",
        not_features=["weekday"],
        label_delay=timedelta(hours=36),
    ).declaration
    assert (declared.entity, declared.timezone, declared.frame) == ("city", "Europe/Berlin", "polars")
    assert (declared.not_features, declared.label_delay) == (("weekday",), Duration.parse("36h"))


def test_a_source_may_be_a_path_or_a_function() -> None:
    def deliver() -> list[int]:
        return [1]

    by_path, by_function = a_dataset(Path("data") / "rides.csv"), a_dataset(deliver)
    assert (by_path.declaration.source, by_path.load) == ("data/rides.csv", None)
    assert (by_function.declaration.source, by_function.load) == (None, deliver)


def test_a_declared_dataset_is_still_the_function() -> None:
    assert (a_dataset().name, a_dataset()([1, 2])) == ("rides", [1, 2])


def test_one_column_may_be_both_time_and_key() -> None:
    assert a_dataset(key="ts").declaration.key == "ts"


@pytest.mark.parametrize("role", ["time", "key", "label", "entity"])
def test_several_columns_for_one_role_are_refused(role: str) -> None:
    said = refusal_of_dataset(**{role: ["a", "b"]})
    assert said.startswith(f"{role} names the 2 columns ['a', 'b'], but a dataset has one {role} column")
    assert "declare one dataset and one model each" in said


@pytest.mark.parametrize("role", ["time", "key", "label", "entity"])
@pytest.mark.parametrize("wrong", ["", 3])
def test_a_role_that_names_no_column_is_refused(role: str, wrong: object) -> None:
    assert refusal_of_dataset(**{role: wrong}) == f"{role} is {wrong!r}; give the name of one column."


@pytest.mark.parametrize("role", ["time", "key", "entity"])
def test_the_label_shares_its_column_with_no_other_role(role: str) -> None:
    assert "column 'busy'; the label needs its own" in refusal_of_dataset(**{role: "busy"})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"label_delay": "1 day"}, "label_delay is '1 day', which is no duration. Did you mean '1d'?"),
        ({"label_delay": "1 month"}, "label_delay is '1 month', which is no duration. Did you mean '1mo'?"),
        ({"frame": "panda"}, "frame is 'panda'. Did you mean 'pandas'?"),
        ({"frame": "arrow"}, "frame is 'arrow'. Did you mean 'pyarrow'?"),
        ({"frame": "spark"}, "frame is 'spark'. Known: pandas, polars, pyarrow."),
        (
            {"timezone": "Europe/Berln"},
            "timezone is 'Europe/Berln', which is no known zone. Did you mean 'Europe/Berlin'?",
        ),
        (
            {"not_features": "weekday"},
            "not_features is 'weekday'; write a list of columns: not_features=['weekday'].",
        ),
        ({"not_features": None}, "not_features is None; write a list."),
        ({"not_features": [1]}, "not_features has 1; its entries are names of columns."),
    ],
)
def test_a_dataset_s_argument_is_refused_with_its_right_spelling(
    changes: dict[str, Any], expected: str
) -> None:
    assert refusal_of_dataset(**changes) == expected


@pytest.mark.parametrize("wrong", ["Nowhere", "", "../etc", None, 3])
def test_an_unknown_zone_is_told_what_a_zone_looks_like(wrong: object) -> None:
    said = refusal_of_dataset(timezone=wrong)
    assert said.startswith(f"timezone is {wrong!r}, which is no known zone.")
    assert said.endswith(("'UTC' or 'Europe/Berlin'.", "?"))


def test_a_source_of_another_kind_is_refused() -> None:
    assert "source is 7; give a Parquet, CSV or JSON lines path" in refusal_of_dataset(7)


def test_a_dataset_without_a_name_is_refused() -> None:
    assert "@clew.dataset decorates a named function" in refusal_of_dataset(function=lambda table: table)


# -- models --------------------------------------------------------------------------------------------


def test_a_model_is_declared_by_metric_and_margin() -> None:
    declared = a_model().declaration
    assert declared == ModelDeclaration(
        name="busy",
        dataset=a_dataset().declaration,
        metric="accuracy",
        margin=Margin(0.01),
        retrain=(Trigger("auto"),),
        rollout=(RolloutStep("shadow", DAY), RolloutStep("canary", DAY, 0.1)),
        params={"num_leaves": 31},
    )
    assert declared.task == "classification"


def test_a_model_keeps_every_other_argument() -> None:
    declared = a_model(
        metric="rmse",
        margin="2%",
        minimum={"mae": 3},
        slices=["city"],
        not_features=["weekday"],
        train_window="90d",
        time_limit="5m",
        memory_limit="4GB",
        allow_code=True,
    ).declaration
    assert (declared.task, declared.margin, declared.minimum) == (
        "regression",
        Margin(0.02, True),
        {"mae": 3.0},
    )
    assert (declared.slices, declared.not_features) == (("city",), ("weekday",))
    assert (declared.train_window, declared.time_limit) == (Duration.parse("90d"), Duration.parse("5m"))
    assert (declared.memory_limit_bytes, declared.allow_code) == (4 * 10**9, True)


def test_a_declared_model_is_still_the_function() -> None:
    assert (a_model().name, a_model()([1], num_leaves=7)) == ("busy", ("fitted on", [1], 7))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"metric": "acuracy"}, "metric is 'acuracy'. Did you mean 'accuracy'?"),
        ({"metric": "logloss"}, "metric is 'logloss'. Did you mean 'log_loss'?"),
        ({"metric": "f1"}, "metric is 'f1'. Known: accuracy, log_loss, mae, rmse."),
        (
            {"margin": 1},
            "margin is 1, but accuracy lies between 0 and 1; one point of a hundred is margin=0.01.",
        ),
        ({"minimum": 0.75}, "minimum is 0.75; write it by metric: minimum={'accuracy': 0.75}."),
        ({"minimum": {"acuracy": 0.75}}, "minimum has 'acuracy'. Did you mean 'accuracy'?"),
        ({"minimum": {"accuracy": "0.75"}}, "minimum has accuracy='0.75'; give a number."),
        ({"minimum": {"accuracy": True}}, "minimum has accuracy=True; give a number."),
        ({"minimum": {"log_loss": float("nan")}}, "minimum has log_loss=nan; give a number."),
        ({"minimum": {"accuracy": 75}}, "minimum has accuracy=75, but accuracy lies between 0 and 1."),
        ({"minimum": {"log_loss": -1}}, "minimum has log_loss=-1, but log_loss lies at or above 0."),
        (
            {"minimum": {"rmse": 3}},
            "minimum has 'rmse', which cannot be measured for a model judged by 'accuracy'.",
        ),
        ({"slices": "city"}, "slices is 'city'; write a list of columns: slices=['city']."),
        ({"slices": 3}, "slices is 3; write a list."),
        ({"train_window": 0}, "train_window is 0; give a number of rows above zero, or a duration."),
        ({"train_window": "0d"}, "train_window is zero; give a length above it, such as '1h' or '30d'."),
        ({"train_window": "1 month"}, "train_window is '1 month', which is no duration. Did you mean '1mo'?"),
        ({"time_limit": "0m"}, "time_limit is zero; give a length above it, such as '1h' or '30d'."),
        ({"time_limit": "5 minutes"}, "time_limit is '5 minutes', which is no duration. Did you mean '5m'?"),
        ({"memory_limit": "4GiB"}, "memory_limit is '4GiB'; write bytes or a size such as '500MB' or '4GB'."),
        ({"memory_limit": 0}, "memory_limit is 0; write bytes or a size such as '500MB' or '4GB'."),
    ],
)
def test_a_model_s_argument_is_refused_with_its_right_spelling(
    changes: dict[str, Any], expected: str
) -> None:
    assert refusal_of_model(**changes) == expected


def test_a_model_of_something_else_than_a_dataset_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"first argument of @clew\.model is 'rides'"):
        clew.model("rides", metric="accuracy", margin=0.01)  # type: ignore[arg-type]


@pytest.mark.parametrize(("given_size", "n_bytes"), [(10, 10), ("500MB", 5 * 10**8), ("2 gb", 2 * 10**9)])
def test_a_memory_limit_is_bytes_or_a_size(given_size: int | str, n_bytes: int) -> None:
    assert a_model(memory_limit=given_size).declaration.memory_limit_bytes == n_bytes


# -- hyperparameters -----------------------------------------------------------------------------------


def test_hyperparameters_are_the_keyword_arguments_with_their_defaults() -> None:
    def fit(
        train: Any, depth: int = 3, *, shape: tuple[int, ...] = (1, 2), note: Any = None, **_: Any
    ) -> None: ...

    assert a_model(fit).declaration.params == {"depth": 3, "shape": (1, 2), "note": None}


def test_a_hyperparameter_without_a_default_is_refused() -> None:
    def fit(train: Any, depth: int) -> None: ...

    said = refusal_of_model(fit)
    assert said.startswith("fit() has the hyperparameter 'depth' without a default; write depth=VALUE")


@pytest.mark.parametrize("default", [object(), {1: 2}, [b"x"], float("nan"), float("inf")])
def test_a_default_that_cannot_be_recorded_is_refused(default: Any) -> None:
    def fit(train: Any, depth: Any = default) -> None: ...

    assert "so that it can be recorded" in refusal_of_model(fit)


def test_a_function_that_cannot_be_given_rows_is_refused() -> None:
    def without() -> None: ...
    def by_name(*, train: Any) -> None: ...

    assert "its first one is the training data" in refusal_of_model(without)
    assert "its first one is the training data" in refusal_of_model(by_name)


# -- retraining ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("auto", (Trigger("auto"),)),
        ("never", (Trigger("never"),)),
        (["auto", "drift"], (Trigger("auto"), Trigger("drift"))),
        (["every 60d"], (Trigger("every", every=Duration.parse("60d")),)),
        (["every 2mo", "rows 5000"], (Trigger("every", every=Duration(2)), Trigger("rows", rows=5000))),
        ("cron 0 3 * * 1", (Trigger("cron", cron="0 3 * * 1"),)),
    ],
)
def test_the_words_of_retraining_are_read(words: Any, expected: tuple[Trigger, ...]) -> None:
    assert parse_retrain(words) == expected


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("60d", "Did you mean 'every 60d'?"),
        ("ever 5d", "Did you mean 'every 5d'?"),
        ("row 5000", "Did you mean 'rows 5000'?"),
        ("2mo", "Did you mean 'every 2mo'?"),
        ("5000", "Did you mean 'rows 5000'?"),
        ("autp", "Did you mean 'auto'?"),
        ("nevr", "Did you mean 'never'?"),
        ("every 60 days", "Did you mean '60d'?"),
        ("every 0d", "write for example 'every 60d'"),
        ("every", "Write 'every 60d', 'rows 5000' or 'cron 0 3 * * 1'"),
        ("rows many", "Write 'every 60d', 'rows 5000' or 'cron 0 3 * * 1'"),
        ("rows 0", "Write 'every 60d', 'rows 5000' or 'cron 0 3 * * 1'"),
        ("rows ²", "Write 'every 60d', 'rows 5000' or 'cron 0 3 * * 1'"),
        ("cron 0 3 * *", "(minute, hour, day, month, weekday)"),
        ("cron 61 3 * * 1", "(minute, hour, day, month, weekday)"),
        ("auto 5", "Did you mean 'auto'?"),
        (60, "its words are strings such as 'auto' or 'every 60d'"),
    ],
)
def test_a_word_of_retraining_is_refused_with_its_right_spelling(word: Any, hint: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        parse_retrain([word])
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "retrain is empty; write retrain='never'"),
        (["auto", "never"], "'never' must stand alone"),
        (["rows 10", "rows 10"], "retrain has 'rows 10' twice."),
        (None, "retrain is None; write a list."),
        (60, "retrain is 60; write a list."),
    ],
)
def test_words_of_retraining_that_cannot_stand_together_are_refused(words: Any, expected: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        parse_retrain(words)
    assert expected in str(caught.value)


@given(
    st.lists(
        st.sampled_from(["auto", "drift", "every 3w", "rows 9", "cron 5 4 * * *"]), min_size=1, unique=True
    )
)
def test_words_of_retraining_print_as_they_were_written(words: list[str]) -> None:
    assert [str(trigger) for trigger in parse_retrain(words)] == words


# -- rollouts ------------------------------------------------------------------------------------------


def test_a_rollout_is_read_stage_by_stage() -> None:
    assert parse_rollout("shadow 2h ,canary 2.5% 1w,  canary 50% 1d") == (
        RolloutStep("shadow", Duration.parse("2h")),
        RolloutStep("canary", Duration.parse("1w"), 0.025),
        RolloutStep("canary", DAY, 0.5),
    )


def test_a_rollout_may_have_no_stages() -> None:
    assert parse_rollout(" now ") == ()


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "a stage is 'shadow 1d' or 'canary 10% 1d'"),
        ("shadow 1d;canary 10% 1d", "a stage is 'shadow 1d' or 'canary 10% 1d'"),
        ("canary 1d", "a stage is 'shadow 1d' or 'canary 10% 1d'"),
        ("canary 10 1d", "a stage is 'shadow 1d' or 'canary 10% 1d'"),
        ("shadow 10% 1d", "a stage is 'shadow 1d' or 'canary 10% 1d'"),
        ("shadow 1d, now", "rollout='now' has none"),
        ("shadow 1day", "Did you mean '1d'?"),
        ("canary 10% 1month", "Did you mean '1mo'?"),
        ("canary 0% 1d", "a canary's share lies between 0% and 100%"),
        ("canary 100% 1d", "a canary's share lies between 0% and 100%"),
        (("shadow 1d",), "write for example rollout='shadow 1d, canary 10% 1d'"),
    ],
)
def test_a_rollout_is_refused_with_the_right_spelling(text: Any, hint: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        parse_rollout(text)
    assert hint in str(caught.value)
