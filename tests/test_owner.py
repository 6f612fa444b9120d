"""Root works in nobody's folder but its own: it goes on as the user whose folder it is."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from edge.cli import main
from edge.config import ModelSection
from edge.depth.engines import EngineFile, EngineFiles, Record, make_engine
from edge.depth.engines.files import FILES
from edge.depth.weights import file_sha256, identify
from edge.errors import EngineError
from edge.system.owner import foreign_owner
from tests.file_server import served

USER = 61500  # one of those that systemd gives to a service while it runs
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def state(monkeypatch):
    """A folder of another user's, which that user can reach, as $STATE_DIRECTORY."""
    folder = Path(tempfile.mkdtemp(prefix="edge-depth-test-"))
    folder.chmod(0o755)
    monkeypatch.setenv("STATE_DIRECTORY", str(folder / "state"))
    (folder / "state").mkdir()
    os.chown(folder / "state", USER, USER)
    yield folder / "state"
    shutil.rmtree(folder)


def can_lay_over():
    """Return whether this root may mount, for which it needs more than most containers have."""
    return os.geteuid() == 0 and not subprocess.run(["unshare", "-m", "true"], check=False).returncode


# What runs here may lie where only root looks, as with a Python below /root.
hidden = pytest.mark.skipif(not can_lay_over(), reason="this root may not mount")


def edge_depth(*arguments):
    """Run the command in a process of its own, as it is installed."""
    command = [sys.executable, "-P", "-m", "edge", *map(str, arguments)]
    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command, env=os.environ | path, capture_output=True, text=True, timeout=100, check=False)


def planted(folder, victim):
    """Put links to a file of root's where the commands write, as the user who owns the folder can."""
    folder.mkdir()
    for name in ("fetched-1.pt.part", "fetched-1.pt.part.json"):
        (folder / name).symlink_to(victim)
    os.chown(folder, USER, USER)


@hidden
def test_a_planted_link_does_not_lead_root_to_its_files(state, tmp_path):
    """A file of root's is the same after `weights fetch` in a folder where somebody put links to it."""
    victim = tmp_path / "victim"
    victim.write_text("root's own")
    victim.chmod(0o600)
    before = victim.stat()
    planted(state / "weights", victim)
    with served(b"PK\3\4 nothing") as server:
        done = edge_depth("weights", "fetch", "--url", server.url)
    assert 78 == done.returncode, done.stderr
    assert f"going on as user {USER}" in done.stderr
    assert "root's own" == victim.read_text()
    assert (before.st_uid, before.st_mode, before.st_mtime_ns) == (
        victim.stat().st_uid,
        victim.stat().st_mode,
        victim.stat().st_mtime_ns,
    )


def test_a_planted_link_is_not_followed(state_directory, tmp_path):
    """Whoever we are: what is written goes to no file that a link leads to."""
    victim = tmp_path / "victim"
    victim.write_text("another file")
    (state_directory / "weights").mkdir(parents=True)
    for name in ("fetched-1.pt.part", "fetched-1.pt.part.json"):
        (state_directory / "weights" / name).symlink_to(victim)
        with served(b"PK\3\4 nothing") as server:
            assert 78 == main(["weights", "fetch", "--url", server.url])
        assert "another file" == victim.read_text()
        (state_directory / "weights" / name).unlink()


@hidden
def test_folders_that_root_made_are_handed_over(state):
    """What an older version made as root, so that nobody else could replace it, is the owner's; links lead nowhere."""
    (state / "engines" / "some-0123").mkdir(parents=True)
    (state / "weights").mkdir()
    elsewhere = state.parent / "elsewhere"
    elsewhere.mkdir()
    (state / "link").symlink_to(elsewhere)
    assert 0 == edge_depth("weights", "list").returncode
    made = (state / "engines", state / "engines" / "some-0123", state / "weights", elsewhere)
    assert [USER, USER, USER, 0] == [path.stat().st_uid for path in made]


@hidden
def test_a_file_that_only_root_reads_can_be_brought(state, tmp_path):
    """What root names is opened with root's rights; the rest is done without them."""
    path = tmp_path / "carried.pt"
    path.write_text("<html>Log in</html>")
    path.chmod(0o600)
    for action in ("import", "verify"):
        done = edge_depth("weights", action, path)
        assert 78 == done.returncode
        assert f"{path}: is no torch checkpoint; it is a web page" in done.stderr


BECOME = """
import os, subprocess, sys
from pathlib import Path
from edge.system.owner import become_owner
folder = Path(os.environ["STATE_DIRECTORY"])
become_owner(folder)
(folder / "made").write_text("x")
look = "import numpy, os; print(os.getresuid(), sorted(os.listdir(os.environ['STATE_DIRECTORY'])))"
child = [sys.executable, "-c", look]
print(os.getresuid(), os.getresgid(), 0 in os.getgroups(), os.environ["HOME"])
print(subprocess.run(child, capture_output=True, text=True, check=True).stdout, end="")
"""


@hidden
def test_a_folder_behind_one_of_roots_own_can_be_reached(state, monkeypatch):
    """As /var/lib/private, in which systemd keeps what a service knows: the process and its children work in it."""
    private = state.parent / "private"
    private.mkdir(mode=0o700)
    state.rename(private / "depth")
    (state.parent / "depth").symlink_to("private/depth")
    monkeypatch.setenv("STATE_DIRECTORY", str(state.parent / "depth"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    done = subprocess.run([sys.executable, "-c", BECOME], capture_output=True, text=True, timeout=60, check=False)
    three = f"({USER}, {USER}, {USER})"
    assert f"{three} {three} False /\n{three} ['made']\n" == done.stdout, done.stderr
    assert USER == (private / "depth" / "made").stat().st_uid


@as_root
def test_who_has_a_hand_in_a_path(state, tmp_path):
    """The first on it that is not root counts, be it the owner of a link; a path of root's alone is nobody else's."""
    assert foreign_owner(tmp_path) is None
    assert foreign_owner(tmp_path / "not" / "there") is None
    assert USER == foreign_owner(state / "weights" / "x").st_uid
    link = tmp_path / "link"
    link.symlink_to("/usr")
    os.chown(link, USER, USER, follow_symlinks=False)
    assert USER == foreign_owner(link / "bin").st_uid


class Gone(Exception):
    """The command would go on as another user."""


COMMANDS = {
    "weights list": ["weights", "list"],
    "weights fetch": ["weights", "fetch"],
    "weights import": ["weights", "import", "FILE"],
    "weights verify": ["weights", "verify"],
    "export": ["export"],
    "bench": ["bench"],
    "demo": ["demo"],
    "run": ["run", "--config", "CONFIG"],
    "doctor": ["doctor", "--config", "CONFIG"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_works_in_the_state_first_asks_whose_it_is(name, state_directory, tmp_path, monkeypatch, photos):
    """Before it looks at anything in there, or loads a library that would."""
    asked = []

    def become(folder):
        asked.append(folder)
        raise Gone

    monkeypatch.setattr("edge.system.owner.become_owner", become)
    monkeypatch.setattr("edge.doctor.become_owner", become)
    for module in ("edge.daemon", "edge.depth.export"):
        monkeypatch.setitem(sys.modules, module, None)
    for place in ("edge.depth.weights.locate", "edge.depth.weights.files.locate", "edge.doctor._state"):
        monkeypatch.setattr(place, lambda *_: pytest.fail("it looks there"))
    files = {"FILE": tmp_path / "carried.pt", "CONFIG": tmp_path / "c.yaml"}
    files["FILE"].write_bytes(b"PK\3\4")
    files["CONFIG"].write_text(f"camera:\n  source: {photos}\n")
    with pytest.raises(Gone):
        main([str(files.get(word, word)) for word in COMMANDS[name]])
    assert [state_directory] == asked


def vouched_for(folder, name):
    """Write an engine file and a record that says it is good, as whoever owns a folder can."""
    files = EngineFiles(folder)
    (folder / FILES[name]).write_bytes(b"whatever runs")
    known = EngineFile(sha256=file_sha256(folder / FILES[name]), delta1=1.0, residual=0.0, accepted=True)
    files.write(Record(made_by="me", calibration="none", engines={name: known}))
    return files


@as_root
@pytest.mark.parametrize("name", FILES)
def test_root_runs_no_engine_file_of_others(name, state, monkeypatch):
    """A record in the same folder vouches for it in vain, for those that hold code above all."""
    folder = state / "engines" / "some"
    folder.mkdir(parents=True)
    files = vouched_for(folder, name)
    with pytest.raises(EngineError, match=rf"in the hands of the user {USER}; root does not run it"):
        files.path(name)
    monkeypatch.setattr("edge.depth.engines.make.folder_of", lambda _: files)
    with pytest.raises(EngineError, match="root does not run it"):
        make_engine(name, ModelSection(), identify("starter-v2"))
    os.chown(state, 0, 0)
    assert folder / FILES[name] == files.path(name)
