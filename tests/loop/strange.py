"""A class of nobody's library, as a file from elsewhere may hold one."""

from __future__ import annotations


class Strange:
    """Has a state, and no business in a model."""

    def __init__(self) -> None:
        self.state = {"a": 1}
