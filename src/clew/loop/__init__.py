"""The loop: decide, challengers, gates, rollouts, jobs, backtest, and the thread back to causes."""

from __future__ import annotations
