"""The loop: decide, challengers, gates, rollouts, jobs, backtest, and the thread back to causes.

`clew.loop.decide` chooses, `clew.loop.model_loop` carries out, on a `clew.loop.world`. Import what you need
from its module: the room's functions and modules share names.
"""

from __future__ import annotations
