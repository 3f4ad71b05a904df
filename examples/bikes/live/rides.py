"""Busy hours, learned from a file that grows while the model is in use."""

import pandas as pd
from lightgbm import LGBMClassifier
from pandas.tseries.holiday import USFederalHolidayCalendar

import clew


@clew.dataset("hours.csv", time="ts", key="hour_id", label="busy", label_delay="1d")
def rides(table):
    table = table.drop_duplicates("hour_id", keep="last")  # an hour comes again once it was counted
    ts = pd.to_datetime(table.ts)
    day, holidays = ts.dt.normalize(), USFederalHolidayCalendar().holidays()
    busy = (table["count"] > 174).where(table["count"].notna()).astype("boolean")
    table = table.assign(ts=ts, busy=busy, hour=ts.dt.hour, weekday=ts.dt.day_name(), wet=table.pn > 0)
    table = table.assign(holiday=day.isin(holidays) | (day.dt.dayofweek >= 5))
    return table.drop(columns=["count"])


@clew.model(rides, metric="accuracy", margin=0.01, minimum={"accuracy": 0.75}, slices=["weekday"])
def busy_hour(train, num_leaves=31, learning_rate=0.1):
    model = LGBMClassifier(num_leaves=num_leaves, learning_rate=learning_rate, verbose=-1)
    return model.fit(train.X, train.y)
