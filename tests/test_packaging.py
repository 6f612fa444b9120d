"""What is shipped, and what it asks for."""

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

import edge

ROOT = Path(__file__).parents[1]


@pytest.fixture
def setup():
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text):
    return [line for line in text.strip().splitlines() if line.strip()]


def names(requirements):
    return {re.match(r"[\w-]+", line)[0].lower() for line in lines(requirements)}


def test_the_distribution_and_its_command_are_called_edge_depth(setup):
    """The command edge-depth runs edge.__main__:main, and the version is that of the package."""
    assert "edge-depth" == setup["metadata"]["name"]
    assert "edge-depth = edge.__main__:main" == setup["options.entry_points"]["console_scripts"].strip()
    assert "attr: edge.__version__" == setup["metadata"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", edge.__version__)


def test_python_3_11_to_3_13(setup):
    """Bookworm has 3.11 and Trixie 3.13; torch 2.9.1 has no builds that are tested for newer ones here."""
    assert ">=3.11,<3.14" == setup["options"]["python_requires"]


def test_torch_is_pinned_with_the_torchvision_that_fits(setup):
    """Other torches stop with an illegal instruction on a Pi 4 or bring CUDA to a Pi."""
    assert {"torch ==2.9.1", "torchvision ==0.24.1"} <= set(lines(setup["options"]["install_requires"]))


def test_picamera2_is_no_requirement(setup):
    """It comes from Raspberry Pi OS; from pip it does not build on a machine without libcamera."""
    asked = names(setup["options"]["install_requires"])
    for extra in setup["options.extras_require"].values():
        asked |= names(extra)
    assert "torch" in asked
    assert set() == asked & {"picamera2", "libcamera"}


def test_every_requirement_has_a_range(setup):
    """A new major version of a library cannot break an installation made years later."""
    exact_or_bounded = re.compile(r"^[\w-]+ (==[\d.]+|>=[\d.]+,<[\d.]+)(;.*)?$")
    assert [] == [line for line in lines(setup["options"]["install_requires"]) if not exact_or_bounded.match(line)]


def test_the_tests_have_what_the_demonstration_needs(setup):
    """scripts/test tests the demonstration too."""
    extras = setup["options.extras_require"]
    assert set(lines(extras["demo"])) <= set(lines(extras["test"]))


def test_every_file_of_the_package_ships(tmp_path):
    """A build holds every module, picture, template and weights file of edge/, and nothing else: no tests."""
    source, built = tmp_path / "source", tmp_path / "built"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "edge", source / "edge", ignore=shutil.ignore_patterns("__pycache__", ".*", "README.md"))
    (source / "tests").mkdir()
    (source / "tests" / "__init__.py").touch()
    build = [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "build_py", "--build-lib"]
    subprocess.run([*build, str(built)], cwd=source, check=True, timeout=60)
    assert files(source / "edge") == files(built / "edge")
    assert ["edge"] == [path.name for path in built.iterdir()]


def files(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


PAGES = sorted(path for path in ROOT.rglob("*.md") if not {".venv", ".git", "artefacts"} & set(path.parts))
_LINK = re.compile(r"\]\(([^)\s#]*)(?:#([\w-]+))?\)")


def anchors(page):
    """Return the names under which a page's headings can be linked to."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    """Each link of a page names a file that is there, and a heading that stands in it."""
    broken = []
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http", "mailto:")):
            continue
        found = (page.parent / target).resolve() if target else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(f"{target}#{anchor}")
    assert [] == broken


def test_the_front_page_is_short():
    """A front page has nine hundred words at most; all else stands on the pages it leads to."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900
