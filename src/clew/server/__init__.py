"""The running system: what ``clew up`` starts, and how people and programs ask it for something.

`supervisor` holds the sockets and keeps the processes alive, `control` is the process that lives the loop and
answers people, `presence` says who runs on a store, `tokens` who may ask. Import what you need from its
module: the supervisor stays small because it loads nothing of what its children need.
"""

from __future__ import annotations
