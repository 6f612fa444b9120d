"""Fixtures that several files share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from edge.web import WebServer
from tests.broker import Mosquitto
from tests.browser import chromium, screen, visit  # noqa: F401 - fixtures
from tests.page_rig import MadeBoard, serving

# torch's threads wait for each other by counting: beside another worker of the tests, or anything else, a network takes
# twenty times as long. libgomp reads this when torch is loaded; processes of the tests' own get it too.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# These machines are noisy: no test may depend on how long an example takes.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the daemon keeps its state during a test: never the user's own folder."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real broker on a free port, open to all."""
    with Mosquitto(tmp_path / "mosquitto") as broker:
        yield broker


@pytest.fixture
def board() -> MadeBoard:
    """A board with a live reading."""
    return MadeBoard()


@pytest.fixture
def server(board: MadeBoard) -> Iterator[WebServer]:
    """A server, on a free port, of the page of the test's own `board`; nothing can be set up on it."""
    with serving(board) as running:
        yield running


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with the starter's engine files, for all tests and their workers; to be read only.

    Int8 has weights of seven bits, which are accurate on every processor.
    """
    from edge.config import ModelSection
    from edge.depth import export
    from edge.depth.export.quantise import RUNGS
    from edge.depth.weights import STARTER, identify

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # the run's own, one for all workers
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATE_DIRECTORY", str(folder / "exported"))
        samples = export.samples_of(export.photographs())
        section = ModelSection(weights=STARTER.name)
        patch.setattr(
            "edge.depth.export.engines.RUNGS", RUNGS[2:4]
        )  # the last that is refused and the first that is not
        # it lets one make them, and the others wait
        export.export(section, identify(STARTER.name), samples, "photographs", print, int8_dot_product=False)
    return folder / "exported"


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real photographs that ships with the package."""
    return Path(__file__).parent.parent / "edge" / "data" / "photos"
