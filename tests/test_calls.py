"""Who is called at run time, and what is left in the user's folders: nobody but who was asked for, and nothing.

The system calls are watched, since what a library calls by itself passes Python by.
"""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

from edge.depth.engines import NAMES
from edge.depth.weights import STARTER
from tests.broker import HOST, Subscriber, eventually

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 90.0
LATE_SECONDS = 12.0  # onnxruntime's wheels wait ten before they call their maker
CALLS = "trace=connect,sendto,sendmsg,sendmmsg"
WATCH = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", "signal=none", "-e", CALLS, "-o"]
OUT = re.compile(r'htons\((\d+)\), (?:sin_addr=inet_addr\(|.*inet_pton\(AF_INET6, )"([^"]+)"')


class Traced:
    """A program of ours in an empty home; what it calls and what it leaves there is kept."""

    def __init__(self, folder, state, *command):
        self.home, self._trace = folder / "home", folder / "trace"
        for place in (self.home, folder / "tmp"):
            place.mkdir(parents=True)
        # as a user has it: no word to onnxruntime, which a test may have said before, and no other place for caches
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_"))}
        environment = kept | {"HOME": str(self.home), "TMPDIR": str(folder / "tmp"), "STATE_DIRECTORY": str(state)}
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*WATCH, self._trace, sys.executable, *command], env=environment, stdout=log, stderr=log, cwd=ROOT
            )

    def called(self):
        """Return the addresses of the network that were called, as (host, port)."""
        return {(host, int(port)) for port, host in OUT.findall(self._trace.read_text())}

    def left(self):
        """Return the files in the home and in the folder for temporary ones."""
        return {str(path) for place in (self.home, self.home.parent / "tmp") for path in place.rglob("*")}


@contextmanager
def daemon(folder, exported, port, engine):
    """Run the daemon with an engine, page and broker."""
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "engines").symlink_to(exported / "engines")
    values = {
        "id": engine,
        "camera": {"source": str(ROOT / "edge" / "data" / "photos"), "fps": 1.0},
        "model": {"weights": STARTER.name, "engine": engine, "threads": 1},
        "mqtt": {"host": HOST, "port": port},
        "web": {"listen": f"{HOST}:0"},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    traced = Traced(folder, folder / "state", "-m", "edge", "run", "--config", folder / "c.yaml")
    try:
        yield traced
    finally:
        traced.process.kill()
        traced.process.wait()


def look_at_the_page(log):
    """Let the page's packages work: the page, its metrics, a reading."""
    page = re.search(r"page at (\S+)", log.read_text())[1]
    for path in ("", "metrics", "api/state"):
        with urlopen(page + path, timeout=30) as answer:
            assert 200 == answer.status


def test_nobody_is_called_but_the_broker(mosquitto, exported, tmp_path):
    """From its start over readings to its end, whichever engine runs, a daemon calls its broker and leaves nothing."""
    with ExitStack() as stack:
        subscriber = stack.enter_context(Subscriber(mosquitto.port, "edge-depth/+/state"))
        daemons = {name: stack.enter_context(daemon(tmp_path / name, exported, mosquitto.port, name)) for name in NAMES}
        for name in NAMES:
            eventually(lambda name=name: subscriber.payloads(f"edge-depth/{name}/state"), name, PATIENCE_SECONDS)
            look_at_the_page(tmp_path / name / "log")
        time.sleep(LATE_SECONDS)
        for traced in daemons.values():
            traced.process.send_signal(signal.SIGTERM)
        assert {0} == {traced.process.wait(PATIENCE_SECONDS) for traced in daemons.values()}
    for name, traced in daemons.items():
        own = {(host, port) for host, port in traced.called() if (host, port) != (HOST, mosquitto.port)}
        # paho wakes its own thread through a pair of sockets on a free port of this machine
        assert (HOST, mosquitto.port) in traced.called()
        assert ({HOST}, True) == ({host for host, _ in own} | {HOST}, len(own) <= 1), name
        assert set() == traced.left(), name


QUANTISE = """
import sys
from pathlib import Path
from edge.depth.export import photographs, samples_of
from edge.depth.export.engines import simplify
from edge.depth.export.quantise import RUNGS, Quantiser
model, folder = map(Path, sys.argv[1:])
simplify(model, folder / "simple.onnx")
pictures = samples_of(photographs()[:2]).calibrating
Quantiser(folder / "simple.onnx", pictures, folder, int8_dot_product=False).write(folder / "int8.onnx", RUNGS[-1])
"""


@pytest.mark.parametrize("way", ["predict", "bench", "doctor", "export"])
def test_every_other_way_to_onnx_runtime_calls_nobody(exported, tmp_path, way):
    """What a command leaves in the home shows that its maker would have been called."""
    photo = ROOT / "edge" / "data" / "photos" / "desk.jpg"
    weights = ["--weights", STARTER.name]
    engine = next(exported.glob("engines/*/float32.onnx"))
    (tmp_path / "made").mkdir()
    command = {
        "predict": ["-m", "edge", "predict", photo, "-o", tmp_path / "made", "--engine", "onnxruntime", *weights],
        "bench": ["-m", "edge", "bench", "--engines", "onnxruntime", "--seconds", "0.1", "--sizes", "64", *weights],
        "doctor": ["-m", "edge.doctor", "onnxruntime"],
        "export": ["-c", QUANTISE, engine, tmp_path / "made"],
    }[way]
    traced = Traced(tmp_path / "run", exported, *command)
    assert 0 == traced.process.wait(PATIENCE_SECONDS), (tmp_path / "run" / "log").read_text()
    assert (set(), set()) == (traced.called(), traced.left())


def test_one_function_loads_onnx_runtime():
    """Whatever else did it would have to say the same first; its tools are loaded after it."""
    ways = {
        str(path.relative_to(ROOT)): found
        for place in ("edge", "scripts")
        for path in (ROOT / place).rglob("*.py")
        if (
            found := re.findall(
                r"^ *(?:import|from) onnxruntime\b.*|import_module.*onnxruntime", path.read_text(), re.M
            )
        )
    }
    assert {
        "edge/depth/engines/onnx.py": ["    import onnxruntime"],
        "edge/depth/export/quantise.py": [
            "        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static"
        ],
    } == ways


def test_service_and_container_say_it_too():
    """Whatever else is run in their environment calls nobody either."""
    service = (ROOT / "systemd" / "edge-depth.service").read_text(encoding="utf-8")
    container = (ROOT / "scripts" / "Containerfile").read_text(encoding="utf-8")
    assert re.search(r"^Environment=ORT_DISABLE_TELEMETRY=1$", service, re.M)
    assert re.search(r"^ENV (.*\\\n)*.*\bORT_DISABLE_TELEMETRY=1\b", container, re.M)
