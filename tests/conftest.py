"""Fixtures that several files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Mosquitto


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real broker on a free port, open to all."""
    with Mosquitto(tmp_path / "mosquitto") as broker:
        yield broker


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real photographs that ships with the package."""
    return Path(__file__).parent.parent / "edge" / "data" / "photos"
