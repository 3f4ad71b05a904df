"""The loop on a running system: rows come from the prediction log, labels as they arrive, time from a clock.

`clew.loop.live.system` is its door. What is decided here is decided by the same functions as in a backtest.
"""

from __future__ import annotations
