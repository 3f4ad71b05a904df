"""Telling people: of pages, and of what the loop did, by a signed webhook and by a command.

What is to be told is written with what is told of, in one transaction, so that neither is there without the
other: `tell`. Sending comes later and outside of it: `deliver_due`. A notice is sent at least once; its id
stays the same, so that a receiver can leave a second one out.
"""

from __future__ import annotations

from clew.notifications.notices import Notice, notice_of
from clew.notifications.outbox import deliver_due, enqueue, tell
from clew.notifications.signature import verify_signature

__all__ = ["Notice", "deliver_due", "enqueue", "notice_of", "tell", "verify_signature"]
