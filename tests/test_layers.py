"""The picture of the layers in README.md, held against the imports."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = {
    "edge": 0,
    "edge.records": 0,
    "edge.documents": 0,
    "edge.files": 0,
    "edge.errors": 0,
    "edge.limits": 0,
    "edge.config": 1,
    "edge.topics": 1,
    "edge.child": 1,
    "edge.owner": 1,
    "edge.board": 2,
    "edge.camera": 2,
    "edge.embedded_broker": 2,
    "edge.gate": 2,
    "edge.health": 2,
    "edge.heatmap": 2,
    "edge.mqtt": 2,
    "edge.network": 2,
    "edge.pictures": 2,
    "edge.power": 2,
    "edge.scene": 2,
    "edge.state": 2,
    "edge.triggers": 2,
    "edge.weights": 2,
    "edge.control": 3,
    "edge.engines": 3,
    "edge.homeassistant": 3,
    "edge.messages": 3,
    "edge.overlay": 3,
    "edge.place": 3,
    "edge.web": 3,
    "edge.depth": 4,
    "edge.evaluation": 5,
    "edge.export": 5,
    "edge.pipeline": 5,
    "edge.doctor": 5,
    "edge.daemon": 6,
    "edge.__main__": 7,
    "edge.cli": 7,
    "edge.commands": 7,
}

# Modules of one layer do not import each other, but for these: (who, whom).
PEERS = {
    ("edge.config", "edge.topics"),
    ("edge.records", "edge.errors"),
    ("edge.camera", "edge.pictures"),
    ("edge.__main__", "edge.cli"),
    ("edge.cli", "edge.commands"),
    ("edge.export", "edge.evaluation"),
    ("edge.overlay", "edge.place"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may import a package from outside, and who of them only inside a function."""

    users: frozenset[str]
    lazily: frozenset[str] = frozenset()


def rule(*users: str, lazily: tuple[str, ...] = ()) -> Rule:
    return Rule(users=frozenset(users + lazily), lazily=frozenset(lazily))


RULES = {
    "torch": rule("edge.network", "edge.export", lazily=("edge.doctor", "edge.engines")),
    "timm": rule("edge.network", "edge.export", lazily=("edge.engines",)),
    "onnx": rule(lazily=("edge.export",)),
    "onnxruntime": rule(lazily=("edge.engines", "edge.export")),
    "torchvision": rule(),
    "paho": rule("edge.mqtt"),
    "amqtt": rule("edge.embedded_broker"),
    "picamera2": rule(lazily=("edge.camera",)),
    "libcamera": rule(lazily=("edge.camera",)),
    "flask": rule("edge.web"),
    "werkzeug": rule("edge.web"),
    "waitress": rule("edge.web"),
    "prometheus_client": rule("edge.web"),
    "cv2": rule(
        *(front for front, layer in LAYERS.items() if 2 <= layer <= 6),
        lazily=("edge.cli", "edge.commands", "edge.config"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import: `source` is the module in which it stands, `lazy` whether that is inside a function."""

    source: str
    target: str
    lazy: bool


def front(module: str) -> str:
    """Return the name that a module's package goes by: `edge.web` for `edge.web.pages`."""
    return ".".join(module.split(".")[:2])


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
            yield from (f"edge.{alias.name}" for alias in node.names if f"edge.{alias.name}" in LAYERS)


def broken(found: Import) -> str | None:
    """Return what an import breaks, or None."""
    source, target = front(found.source), front(found.target)
    package = found.target.partition(".")[0]
    if package == "edge":
        allowed = source == target or (source, target) in PEERS or LAYERS[target] < LAYERS[source] or target == "edge"
        return None if allowed else f"{found.source} (layer {LAYERS[source]}) imports {target} ({LAYERS[target]})"
    limit = RULES.get(package)
    if limit and source not in limit.users:
        return f"{found.source} imports {package}, which only {sorted(limit.users)} may"
    if limit and source in limit.lazily and not found.lazy:
        return f"{found.source} imports {package} outside a function"
    return None


FILES = sorted((ROOT / "edge").rglob("*.py"))


def test_every_module_has_its_layer():
    """A module that the table does not know has no place yet: give it one."""
    assert set() == {front(module_of(path)) for path in FILES} - LAYERS.keys()


def test_imports_go_down_the_layers():
    """No module imports one of its own or a higher layer, nor a package that is another module's business."""
    assert [] == [problem for path in FILES for found in imports(path) if (problem := broken(found))]


@pytest.mark.parametrize(
    ("source", "target", "lazy"),
    [
        ("edge.config.load", "edge.camera", True),
        ("edge.scene", "edge.heatmap", False),
        ("edge.commands.bench", "torch", True),
        ("edge.engines", "torch.nn", False),
        ("edge.camera.picamera", "picamera2", False),
        ("edge.mqtt", "flask", True),
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
        "import cv2 as cv\nfrom edge import records\nfrom . import api\nfrom .. import topics\nfrom ..mqtt import A\n"
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
        ("edge.mqtt", False),
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
    script = "import sys, edge.engines\nsys.exit('torch' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=60).returncode


def test_a_daemon_without_a_page_never_loads_the_server():
    """Flask and waitress take a sixth of the time in which all else is imported: they come with `web.listen`."""
    script = "import sys, edge.daemon\nsys.exit('flask' in sys.modules or 'waitress' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=60).returncode
