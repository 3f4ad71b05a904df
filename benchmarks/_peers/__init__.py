"""Each tool that versions data as one program, which runs in the tool's own environment."""

from __future__ import annotations
