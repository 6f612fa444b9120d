"""What somebody outside can cause is limited: commands, and the lines of the log."""

import logging
import re

import pytest

from edge.limits import LineLimit, RateLimit


def test_a_rate_limit_takes_a_burst_and_then_its_pace():
    """Three at once; then one for each half second that has passed, and never more than three."""
    limit = RateLimit(3, 2.0)
    assert [True, True, True, False] == [limit.takes(10.0) for _ in range(4)]
    assert [False, True, False] == [limit.takes(now) for now in (10.4, 10.6, 10.7)]
    assert [True, True, True, False] == [limit.takes(99.0) for _ in range(4)]


class Lines(logging.Handler):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(record.getMessage())


@pytest.fixture
def lines() -> Lines:
    made = Lines()
    made.addFilter(LineLimit(3, 0.1))
    return made


def test_lines_of_one_kind_are_limited_and_counted(lines: Lines, monkeypatch: pytest.MonkeyPatch):
    """However they differ in their words; the last one says that more are left out, the next one how many were."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    logger = logging.Logger("any")
    logger.addHandler(lines)
    for number in range(100):
        if number == 99:
            now[0] += 10
        logger.warning("refused: %d", number)
    told = "of more like it one in 10 s is told"
    assert ["refused: 0", "refused: 1", f"refused: 2 [{told}]"] == lines.written[:3]
    assert [f"refused: 99 [96 more like it were left out; {told}]"] == lines.written[3:]


def test_one_kind_leaves_room_for_another(lines: Lines):
    """A flood of one hides nothing else; a line that nobody limits by itself is limited as well."""
    logger = logging.Logger("any")
    logger.addHandler(lines)
    for _ in range(100):
        logger.info("set")
        try:
            raise RuntimeError
        except RuntimeError:
            logger.exception("failed")
    logger.error("seen")
    assert ["set", "failed"] * 2 == [re.sub(r" \[.*", "", line) for line in lines.written[:4]]
    assert (7, "seen") == (len(lines.written), lines.written[-1])
