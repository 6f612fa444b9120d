"""The plan of the house in edge/README.md, held against the imports."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# `| floor | room, room | what they are for |` in the table "The house".
_ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)


def plan() -> dict[str, int]:
    """Return the floor of each room as edge/README.md has it."""
    rows = _ROW.findall((ROOT / "edge" / "README.md").read_text(encoding="utf-8"))
    return {f"edge.{room}": int(floor) for floor, rooms in rows for room in re.findall(r"`(\w+)/?`", rooms)}


FLOORS = plan()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may import a package from outside, and who of them only inside a function."""

    users: frozenset[str]
    lazily: frozenset[str] = frozenset()


def rule(*users: str, lazily: tuple[str, ...] = ()) -> Rule:
    return Rule(users=frozenset(users + lazily), lazily=frozenset(lazily))


RULES = {
    "torch": rule("edge.depth.midas", "edge.depth.export", lazily=("edge.doctor", "edge.depth.engines")),
    "timm": rule("edge.depth.midas", "edge.depth.export", lazily=("edge.depth.engines",)),
    "onnx": rule(lazily=("edge.depth.export",)),
    "onnxruntime": rule(lazily=("edge.doctor", "edge.depth.engines", "edge.depth.export")),
    "torchvision": rule(),
    "paho": rule("edge.publish.mqtt"),
    "amqtt": rule("edge.publish.embedded_broker"),
    "picamera2": rule(lazily=("edge.camera",)),
    "libcamera": rule(lazily=("edge.camera",)),
    "flask": rule("edge.web"),
    "werkzeug": rule("edge.web"),
    "waitress": rule("edge.web"),
    "prometheus_client": rule("edge.web"),
    "cv2": rule(
        *(
            f"edge.{room}"
            for room in ("pictures", "camera", "scene", "publish", "evaluation", "depth", "web", "daemon")
        ),
        lazily=("edge.cli", "edge.commands", "edge.config"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import: `source` is the module in which it stands, `lazy` whether that is inside a function."""

    source: str
    target: str
    lazy: bool


def room_of(module: str) -> str:
    """Return the room that a module is in: `edge.web` for `edge.web.pages`; the package itself is in none."""
    return ".".join(module.split(".")[:2]).replace("__main__", "cli")


def is_in(module: str, places: frozenset[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[Import]:
    source = module_of(path)
    package = source if path.name == "__init__.py" else source.rpartition(".")[0]
    for node, lazy in statements(ast.parse(path.read_text(encoding="utf-8")), lazy=False):
        for target in targets(node, package):
            yield Import(source=source, target=target, lazy=lazy)


def statements(node: ast.AST, *, lazy: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Yield every node that runs, and whether it stands in a function; what only a type checker reads is left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child, lazy
        yield from statements(child, lazy=lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def targets(node: ast.AST, package: str) -> Iterator[str]:
    """Yield the full names of the modules that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *filter(None, [node.module])])
        yield base
        if base == "edge":
            yield from (f"edge.{alias.name}" for alias in node.names if f"edge.{alias.name}" in FLOORS)


def broken(found: Import) -> str | None:
    """Return what an import breaks, or None."""
    source, target = room_of(found.source), room_of(found.target)
    package = found.target.partition(".")[0]
    if package == "edge":
        allowed = source == target or target == "edge" or FLOORS[target] < FLOORS[source]
        return None if allowed else f"{found.source} (floor {FLOORS[source]}) imports {target} ({FLOORS[target]})"
    limit = RULES.get(package)
    if limit and not is_in(found.source, limit.users):
        return f"{found.source} imports {package}, which only {sorted(limit.users)} may"
    if limit and is_in(found.source, limit.lazily) and not found.lazy:
        return f"{found.source} imports {package} outside a function"
    return None


FILES = sorted((ROOT / "edge").rglob("*.py"))


def test_every_room_is_in_the_plan():
    """The plan names every room and no other: give a new one its floor in edge/README.md."""
    assert FLOORS.keys() == {room_of(module_of(path)) for path in FILES} - {"edge"}
    assert len(FLOORS) <= 20


def test_imports_go_down_the_floors():
    """No room imports one of its own or a higher floor, nor a package that is another room's business."""
    assert [] == [problem for path in FILES for found in imports(path) if (problem := broken(found))]


def test_the_rooms_know_few_others():
    """Fewer than eighty pairs of rooms know each other, however many imports there are between them."""
    arrows = {(room_of(each.source), room_of(each.target)) for path in FILES for each in imports(path)}
    inside = {(source, target) for source, target in arrows if source != target and target in FLOORS}
    assert len(inside) <= 80


@pytest.mark.parametrize(
    ("source", "target", "lazy"),
    [
        ("edge.config.load", "edge.camera", True),
        ("edge.scene", "edge.publish.heatmap", False),
        ("edge.commands.bench", "torch", True),
        ("edge.depth.engines", "torch.nn", False),
        ("edge.camera.picamera", "picamera2", False),
        ("edge.publish.mqtt", "flask", True),
        ("edge.cli", "cv2", False),
        ("edge.topics", "cv2", True),
    ],
)
def test_a_wrong_import_is_noticed(source, target, lazy):
    """The checks above do not pass because they look at nothing."""
    assert broken(Import(source=source, target=target, lazy=lazy)) is not None


def test_imports_of_every_kind_are_read(tmp_path, monkeypatch):
    """Plain, relative and aliased imports are found, those in functions told apart, a type checker's left out."""
    package = tmp_path / "edge" / "web"
    package.mkdir(parents=True)
    (package / "page.py").write_text(
        "import cv2 as cv\nfrom edge import records\nfrom . import api\nfrom .. import topics\nfrom ..web import A\n"
        "class C:\n    def f(self):\n        if True:\n            from torch import nn\n"
        "if TYPE_CHECKING:\n    import flask\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    found = {(each.target, each.lazy) for each in imports(package / "page.py")}
    assert {
        ("cv2", False),
        ("edge", False),
        ("edge.records", False),
        ("edge.topics", False),
        ("edge.web", False),
        ("torch", True),
    } == found


@pytest.mark.parametrize("command", ["import edge.cli", "import runpy; runpy.run_module('edge', run_name='__main__')"])
def test_the_command_line_starts_without_the_heavy_packages(command):
    """Neither `import edge.cli` nor `edge-depth --help` waits for torch, OpenCV, a camera, the page or the broker."""
    script = (
        "import atexit, sys\n"
        "heavy = ('torch', 'timm', 'cv2', 'picamera2', 'flask', 'paho', 'amqtt')\n"
        "atexit.register(lambda: print('loaded:', *[name for name in heavy if name in sys.modules], flush=True))\n"
        f"sys.argv = ['edge-depth', '--help']\n{command}\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (0, "loaded:") == (done.returncode, done.stdout.rstrip().splitlines()[-1]), done.stderr


def test_the_engines_come_without_torch_until_one_is_made():
    """Importing the engines loads no torch: a daemon that runs another engine never pays for it."""
    script = "import sys, edge.depth.engines\nsys.exit('torch' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=60).returncode


def test_a_daemon_without_a_page_never_loads_the_server():
    """Flask and waitress take a sixth of the time in which all else is imported: they come with `web.listen`."""
    script = "import sys, edge.daemon\nsys.exit('flask' in sys.modules or 'waitress' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=60).returncode
