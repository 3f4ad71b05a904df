"""The formats in which models are kept: each reads and writes one kind, and never by pickle."""

from __future__ import annotations
