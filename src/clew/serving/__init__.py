"""Prediction: a request's bytes in, an answer's bytes out, with a record of each before it is given.

`clew.serving.worker` is the process that listens; its HTTP is in `app`, who may ask in `door`, what a
request means in `predict` and `labels`, which version answers in `routing`, what is loaded in `loading`, and
who serves by which routes in `fleet`. Import what you need from its module.
"""

from __future__ import annotations
