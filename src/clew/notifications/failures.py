"""Why something could not be told, in words that may be shown to anybody."""

from __future__ import annotations


class DeliveryFailed(Exception):
    """One attempt to send a notice failed; it will be tried again, unless it was the last one."""
