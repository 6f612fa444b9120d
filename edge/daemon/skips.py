"""What can't be made is left out: no output ends the readings."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


class Skips:
    """Leaves out what fails, and tells of it once with its traceback; from any thread."""

    def __init__(self) -> None:
        self._told: set[tuple[str, type[Exception]]] = set()

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Let `what` be left out where it fails of itself; what is done within the `with` ends there."""
        try:
            yield
        except Exception as error:
            if (kind := (what, type(error))) not in self._told:
                self._told.add(kind)
                logger.exception("%s: can't be had and is left out; readings go on", what)
