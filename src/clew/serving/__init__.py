"""Prediction: a request's bytes in, an answer's bytes out, with a record of each before it is given.

`clew.serving.routing` says which version answers, `clew.serving.worker` is the process that listens. Import
what you need from its module.
"""

from __future__ import annotations
