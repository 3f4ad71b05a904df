"""Who types: the name that stands in the audit log for what is done at the command line."""

from __future__ import annotations

import os
import pwd


def actor_here() -> str:
    """The user's login name on this machine."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a number that no account has
        return f"user {os.getuid()}"
