"""One module for each verb; a module is imported when its verb is called."""

from __future__ import annotations
