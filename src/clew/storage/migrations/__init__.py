"""How a store of one version becomes a store of the next.

Each file of ``versions`` is one step, an Alembic revision named by the store version it leads to. Steps
are never changed once released: a store that was made by an old Clew still has to take them.
"""

from __future__ import annotations
