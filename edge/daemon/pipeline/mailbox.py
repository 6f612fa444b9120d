"""The mailbox between two threads."""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """One slot between two threads: `put` replaces what was not taken and counts it.

    While it is shut nothing is taken in, and what lay in it is thrown away.
    """

    def __init__(self) -> None:
        # Guards all that follows; notified whenever the slot is filled or the mailbox closed.
        self._changed = threading.Condition()
        self._item: T | None = None
        self._shut = False
        self._nudged = False
        self._closed = False
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many items a newer one replaced."""
        with self._changed:
            return self._dropped

    @property
    def finished(self) -> bool:
        """Whether nothing more will come: closed, and what lay in it taken."""
        with self._changed:
            return self._closed and self._item is None

    def put(self, item: T) -> None:
        """Leave `item` for the other thread; what it had not taken is dropped."""
        with self._changed:
            if self._shut:
                return
            if self._item is not None:
                self._dropped += 1
            self._item = item
            self._changed.notify_all()

    def take(self, timeout: float) -> T | None:
        """Wait up to `timeout` seconds for an item; null when none came, or at a nudge, or closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._nudged or self._closed, timeout)
            item, self._item = self._item, None
            self._nudged = False
            return item

    def nudge(self) -> None:
        """Wake whoever waits: there is something else to do."""
        with self._changed:
            self._nudged = True
            self._changed.notify_all()

    def shut(self, shut: bool) -> None:
        """Take nothing in any more, or take things in again."""
        with self._changed:
            self._shut = shut
            self._item = None if shut else self._item

    def close(self) -> None:
        """Wake whoever waits; what lies in the slot can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
