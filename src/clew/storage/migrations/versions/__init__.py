"""One file a store version."""

from __future__ import annotations
