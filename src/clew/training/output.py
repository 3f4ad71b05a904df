"""What user code printed, kept within bounds: the beginning and the end."""

from __future__ import annotations

KEPT_BYTES = 128 * 1024


class Output:
    """Collects printed bytes; of a flood it keeps the first and last `kept_bytes` and says what it cut.

    Examples
    --------
    >>> output = Output(kept_bytes=4)
    >>> output.add(b"abcdefghijkl")
    >>> output.take()
    b'abcd\\n[... 4 bytes cut ...]\\nijkl'
    >>> output.take()
    b''
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._head = bytearray()
        self._tail = bytearray()
        self._n_cut = 0

    def add(self, printed: bytes) -> None:
        room = self._kept_bytes - len(self._head)
        self._head += printed[:room]
        self._tail += printed[room:]
        # Trimmed only now and then, so that a flood of small writes costs no copy each.
        if len(self._tail) > 2 * self._kept_bytes:
            self._trim()

    def take(self) -> bytes:
        """What was added since the last call."""
        self._trim()
        cut = f"\n[... {self._n_cut:,} bytes cut ...]\n".encode() if self._n_cut else b""
        taken = bytes(self._head) + cut + bytes(self._tail)
        self._head, self._tail, self._n_cut = bytearray(), bytearray(), 0
        return taken

    def _trim(self) -> None:
        n_over = len(self._tail) - self._kept_bytes
        if n_over > 0:
            del self._tail[:n_over]
            self._n_cut += n_over
