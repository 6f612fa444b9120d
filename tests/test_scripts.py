"""The set-up scripts: what they decide, without the network."""

import grp
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.doctor.ailments import GROUP

ROOT = Path(__file__).parents[1]
COMMANDS = ["scripts/check", "scripts/demo", "scripts/install.sh", "scripts/test", ".ci/run"]


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the scripts read, free to change."""
    folder = tmp_path / "check out"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def programs(tmp_path):
    """A folder that stands first in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def put(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


def shell(checkout, script, *, first=None, path=None):
    """Run a script after lib.sh; `first` stands before PATH, `path` in its place."""
    search = path or os.environ["PATH"]
    environment = {**os.environ, "PATH": f"{first}:{search}" if first else str(search)}
    return subprocess.run(
        ["/bin/bash", "-c", f'set -euo pipefail\n. "$0/scripts/lib.sh"\n{script}', str(checkout)],
        env=environment,
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def out(done):
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()


# A Python of which only the version is false.
FALSE_VERSION = """
[ "$1" = -c ] || exit 1
exec {python} -c "import sys; sys.version_info = {version}; sys.version = '.'.join(map(str, {version})); $2" "${{@:3}}"
"""


def put_python(folder, name, *version):
    put(folder / name, FALSE_VERSION.format(python=sys.executable, version=version))


@pytest.mark.parametrize("name", [*COMMANDS, "scripts/lib.sh"])
def test_bash_can_read_every_script(name):
    """No script has a slip of the pen that shows only when its line is reached."""
    done = subprocess.run(["/bin/bash", "-n", str(ROOT / name)], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_to_be_run_can_be_run(name):
    """The commands of the README are executable files."""
    assert os.access(ROOT / name, os.X_OK)


def test_the_first_python_that_fits_is_taken(checkout, programs):
    """An old python3 is passed over, and so is a name that is there but does not run."""
    put_python(programs, "python3", 3, 9, 2)
    put(programs / "python3.13", "exit 127")
    put_python(programs, "python3.12", 3, 12, 1)
    put_python(programs, "python3.11", 3, 11, 4)
    assert str(programs / "python3.12") == out(shell(checkout, "find_python false", first=programs))


def test_without_a_python_that_fits_it_says_what_is_needed(checkout, programs):
    """The message names the version that is there, those that would do, and where to get one."""
    for name in ("python3", "python3.13", "python3.12", "python3.11"):
        put_python(programs, name, 3, 14, 0)
    done = shell(checkout, "find_python false; echo not reached", first=programs)
    assert (1, "") == (done.returncode, done.stdout)
    assert "needs a 64-bit Python 3.11, 3.12 or 3.13, but python3 is 3.14.0 64-bit" in done.stderr
    assert "Raspberry Pi OS" in done.stderr


@pytest.mark.parametrize(("there", "expected"), [(True, "true"), (False, "false")])
def test_the_systems_packages_are_seen_where_picamera2_is_one(checkout, tmp_path, there, expected):
    """The picamera2 of apt is no use to an environment that is shut off from the system's packages."""
    folder = tmp_path / "picamera2"
    if there:
        folder.mkdir()
    assert expected == out(shell(checkout, f"apt_picamera2={folder}; system_packages"))


def test_a_missing_ensurepip_is_asked_for_by_the_name_of_its_package(checkout, programs):
    """Debian has venv's pip in a package of its own; without the right to install it, the command to type is told."""
    put(programs / "python3", f"""[[ "$2" != *ensurepip* ]] || exit 1\nexec {sys.executable} "$@" """)
    put(programs / "id", "echo 1000")
    put(programs / "sudo", "exit 1")
    done = shell(checkout, 'make_venv "$root/.venv" false', first=programs)
    assert 1 == done.returncode
    assert "sudo apt install python3-venv" in done.stderr
    assert not (checkout / ".venv").exists()


# Makes environments without pip, in no time; `put_pip` makes them whole.
QUICK_VENV = """case "$*" in '-m venv'*) exec {python} "$@" --without-pip ;; *) exec {python} "$@" ;; esac"""


def put_pip(venv):
    (package,) = venv.glob("lib/python*/site-packages")
    (package / "pip").mkdir()
    (package / "pip" / "__init__.py").touch()


def test_a_whole_environment_is_kept_and_a_broken_one_made_afresh(checkout, programs):
    """What an interrupted run left, or one that does not see the packages that it should, is not built upon."""
    put(programs / "python3", QUICK_VENV.format(python=sys.executable))
    venv = checkout / ".venv"

    def makes(system):
        return "Making" in shell(checkout, f'make_venv "$root/.venv" {system}', first=programs).stderr

    assert makes("false")
    assert makes("false")
    put_pip(venv)
    assert not makes("false")
    assert 1 == shell(checkout, 'venv_fits "$root/.venv" true').returncode


# Stands for pip: says what it was asked to install, and whether PyTorch's index has the build without CUDA.
PIP = """
case $* in
    *index*) echo "$*" >>"$LOG"; echo "torch (2.13.0+cpu)"; echo "Available versions: 2.13.0+cpu{offer}" ;;
    *uninstall*) ;;
    *pip*install*) echo "$*" >>"$LOG" ;;
    '- '*) exit {missing} ;;
    *) exec {python} "$@" ;;
esac
"""


def install_torch(checkout, programs, *, machine, offer="", missing=1):
    log = checkout / "log"
    venv = checkout / ".venv"
    put(programs / "uname", f"echo {machine}")
    put(venv / "bin" / "python", PIP.format(offer=offer, missing=missing, python=sys.executable))
    out(shell(checkout, f'export LOG="{log}"; install_torch "$root/.venv"', first=programs))
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def test_on_a_pc_torch_comes_without_cuda_where_that_can_be_had(checkout, programs):
    """Both packages come in one command from one index, pinned to that index's builds."""
    *_, install = install_torch(checkout, programs, machine="x86_64", offer=", 2.9.1+cpu")
    assert install.endswith("--index-url https://download.pytorch.org/whl/cpu torch==2.9.1+cpu torchvision==0.24.1+cpu")


def test_on_a_pc_the_ordinary_index_is_taken_for_both_where_the_other_does_not_answer(checkout, programs):
    """A build of another version, on a disk that pip looks at too, does not pass for an answer."""
    asked, install = install_torch(checkout, programs, machine="x86_64")
    assert "index versions" in asked
    assert install.endswith(" torch==2.9.1 torchvision==0.24.1")
    assert "--index-url" not in install


def test_on_a_pi_the_ordinary_index_is_taken_at_once(checkout, programs):
    """Its builds for arm64 have no CUDA; nothing else is asked."""
    (install,) = install_torch(checkout, programs, machine="aarch64")
    assert install.endswith("install --disable-pip-version-check torch==2.9.1 torchvision==0.24.1")


def test_torch_that_is_there_is_left_alone(checkout, programs):
    """A second set-up, for other extras, does not ask any index for it."""
    assert [] == install_torch(checkout, programs, machine="x86_64", missing=0)


@pytest.mark.parametrize(
    ("pins", "expected"),
    [("pytest=={}", 0), ("pytest==0.1", 1), ("pytest=={} no-such-package==1.0", 1)],
)
def test_pins_are_held_against_what_is_installed(checkout, pins, expected):
    """All must be there, in just that version."""
    done = shell(checkout, f'has_pins "{sys.prefix}" {pins.format(pytest.__version__)}')
    assert expected == done.returncode


@pytest.mark.parametrize(
    ("release", "there", "expected"), [("bookworm", True, 1), ("trixie", True, 0), ("bookworm", False, 0)]
)
def test_bookworms_picamera2_gets_a_simplejpeg_that_fits(checkout, tmp_path, release, there, expected):
    """It is put into the environment over the system's own, and only where picamera2 would trip over that."""
    (tmp_path / "os-release").write_text(f"ID=debian\nVERSION_CODENAME={release}\n", encoding="utf-8")
    picamera2 = tmp_path if there else tmp_path / "missing"
    script = f"os_release={tmp_path}/os-release; apt_picamera2={picamera2}; pip_install() {{ echo pip $*; }}"
    lines = out(shell(checkout, f"{script}; install_simplejpeg venv")).splitlines()
    assert expected * ["pip venv --ignore-installed --no-deps simplejpeg>=1.8,<2"] == lines


# What takes long is left out; what remains is when it is done.
QUICK = f"""
make_venv() {{ mkdir -p "$1/bin"; }}
install_torch() {{ ln -sfn {sys.executable} "$1/bin/python"; }}
pip_install() {{ echo "installed $*"; }}
"""


def set_up(checkout, extra="demo"):
    return out(shell(checkout, f"{QUICK}\nset_up {extra}"))


def test_the_second_run_installs_nothing(checkout):
    """Each extra is installed once, and never again while nothing changes."""
    assert set_up(checkout).endswith("/check out[demo]")
    assert "" == set_up(checkout)
    assert set_up(checkout, "test").endswith("/check out[test]")
    assert ("", "") == (set_up(checkout, "demo"), set_up(checkout, "test"))


@pytest.mark.parametrize("name", ["setup.cfg", "pyproject.toml", "scripts/lib.sh"])
def test_changed_requirements_are_installed(checkout, name):
    """After a pull that changes what is needed, the next run sets up again."""
    set_up(checkout)
    with (checkout / name).open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    assert "installed" in set_up(checkout)


def test_another_python_in_the_environment_is_noticed(checkout):
    """After an upgrade of the system the environment is set up anew."""
    set_up(checkout)
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    put(python, "echo 3.13.1")
    assert "installed" in set_up(checkout)


def test_an_interrupted_set_up_is_gone_on_with(checkout):
    """Only what was installed to the end counts as set up."""
    done = shell(checkout, f"{QUICK}\npip_install() {{ return 7; }}\nset_up demo; echo not reached")
    assert (7, "") == (done.returncode, done.stdout)
    assert "installed" in set_up(checkout)


def test_two_set_ups_do_not_run_at_once(checkout):
    """The second waits for the first and finds the work done; the program that is run then holds no lock."""
    slow = f'{QUICK}\ninstall_simplejpeg() {{ touch "$root/begun"; sleep 1; }}\nset_up demo; sleep 30'
    first = subprocess.Popen(
        ["/bin/bash", "-c", f'set -euo pipefail\n. "$0/scripts/lib.sh"\n{slow}', str(checkout)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not (checkout / "begun").exists():
            assert first.poll() is None
            time.sleep(0.02)
        done = shell(checkout, f"{QUICK}\nset_up demo")
        assert None is first.poll()
    finally:
        os.killpg(first.pid, 15)
        first.wait()
    assert (0, "", "== Waiting for another set-up to end\n") == (done.returncode, done.stdout, done.stderr)


def test_programs_that_are_there_are_not_installed(checkout):
    """No package is asked for that is on the machine."""
    assert "" == out(shell(checkout, "apt_install() { echo apt $*; }\nneed bash=bash env=coreutils"))


def test_missing_programs_are_installed_in_one_go(checkout):
    """The packages are named, not the programs."""
    script = "apt_install() { echo apt $*; }\nneed bash=bash no-such-program=package-a nor-this=package-b"
    assert "apt package-a package-b" == out(shell(checkout, script))


def test_without_the_right_to_install_the_run_fails_and_says_what_to_type(checkout, programs):
    """Tests that need a program never pass because it is not there."""
    put(programs / "id", "echo 1000")
    put(programs / "sudo", "exit 1")
    done = shell(checkout, "need no-such-program=package-a; echo not reached", first=programs)
    assert (1, "") == (done.returncode, done.stdout)
    assert "sudo apt install package-a" in done.stderr


def test_the_package_lists_are_read_anew_only_when_apt_does_not_know_a_package(checkout, programs):
    """A machine that was never updated is; another does not wait for it."""
    put(programs / "id", "echo 0")
    put(programs / "apt-get", 'echo "$*"; case $* in *update*) touch "$FRESH" ;; *stale*) [ -e "$FRESH" ] ;; esac')
    known = out(shell(checkout, f"export FRESH={programs}/fresh; apt_install known", first=programs))
    stale = out(shell(checkout, f"export FRESH={programs}/fresh; apt_install stale", first=programs))
    assert ["install"] == steps(known)
    assert ["install", "update", "install"] == steps(stale)


def steps(log):
    return [word for line in log.splitlines() for word in line.split() if word in ("install", "update")]


def test_the_installer_needs_root(programs):
    """It says so before it touches anything."""
    put(programs / "id", "echo 1000")
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    script = ROOT / "scripts" / "install.sh"
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=False)
    assert (1, "") == (done.returncode, done.stdout)
    assert "needs root; run: sudo" in done.stderr


def test_the_installer_refuses_what_it_does_not_know():
    """A misspelt --uninstall does not install."""
    done = subprocess.run([ROOT / "scripts" / "install.sh", "--remove"], capture_output=True, text=True, check=False)
    assert (1, "") == (done.returncode, done.stdout)
    assert "unknown option --remove" in done.stderr


# Stands for systemd: notes what it is asked for, and keeps in $STATES what state each service is in and whether it is
# enabled. A service starts if its program does, and is tried again and again if not.
SYSTEMCTL = """
echo "$*" >>"$LOG"
mkdir -p "$STATES/enabled"
name=${@: -1}
name=${name%.service}.service
case $* in
    list-units*) cd "$STATES" && for u in *.service; do [ ! -e "$u" ] || echo "$u loaded $(<"$u") x"; done ;;
    'restart --no-block'*) ;;
    restart*)
        echo activating >"$STATES/$name"
        "$DESTDIR/opt/edge-depth/venv/bin/edge-depth" run || exit
        echo active >"$STATES/$name"
        ;;
    stop*) echo inactive >"$STATES/$name" ;;
    enable*) [ -z "${CUT_OFF-}" ] || kill -9 $PPID; touch "$STATES/enabled/$name" ;;
    disable*) rm -f "$STATES/enabled/$name" ;;
    is-enabled*) [ -e "$STATES/enabled/$name" ] ;;
    is-active*) [ "$(cat "$STATES/$name" 2>/dev/null)" = active ] ;;
    show*) echo 42 ;;
esac
"""
# Stands for the installed program: whatever is to fail in it fails.
PROGRAM = """
install_packages() { :; }
install_edge_depth() {
    mkdir -p "$1/bin"
    printf '#!/bin/bash\\necho "$*" >>"$LOG"; [ "$1" != "%s" ]\\n' "${FAILS-}" >"$1/bin/edge-depth"
    chmod 755 "$1/bin/edge-depth"
}
"""


@pytest.fixture
def machine(checkout, programs, tmp_path):
    """Return a function that runs the installer on an empty machine where systemd, pip and the program are false."""
    put(programs / "id", "echo 0")
    put(programs / "systemctl", SYSTEMCTL)
    for name in ("edge/data/photos", "config", "systemd"):
        shutil.copytree(ROOT / name, checkout / name)
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    installer = checkout / "scripts" / "install.sh"
    first, rest = installer.read_text(encoding="utf-8").split("\nswitch_over()", 1)
    # a group that there is here, so that no rights are needed
    first = first.replace(f"\ngroup={GROUP}\n", f"\ngroup=${{GROUP-{grp.getgrgid(os.getgid()).gr_name}}}\n")
    installer.write_text(f"{first}\n{PROGRAM}\nswitch_over(){rest}", encoding="utf-8")
    log = tmp_path / "log"

    states = tmp_path / "states"

    def install(*arguments, fails="", cut_off="", **more):
        log.unlink(missing_ok=True)
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "LOG": str(log), "FAILS": fails}
        environment |= {"DESTDIR": str(tmp_path / "machine"), "SETTLE_SECONDS": "0"}
        environment |= {"STATES": str(states), "CUT_OFF": cut_off} | {key.upper(): each for key, each in more.items()}
        command = [str(installer), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        return done, log.read_text(encoding="utf-8") if log.exists() else ""

    install.root = tmp_path / "machine"
    install.states = states
    return install


def installed(machine):
    """Return every file and link that the installer made, but for what lies inside a version."""
    found = {path.relative_to(machine.root).as_posix() for path in machine.root.rglob("*") if not path.is_dir()}
    return {name for name in found if "/versions/" not in name}


def version(machine):
    return (machine.root / "opt/edge-depth/venv").resolve()


INSTALLED = {
    "opt/edge-depth/venv",
    "usr/local/bin/edge-depth",
    "etc/edge-depth/edge-depth.yaml",
    "etc/systemd/system/edge-depth.service",
    "etc/systemd/system/edge-depth@.service",
    "etc/systemd/system/edge-depth.service.d/10-edge-depth-config.conf",
    "etc/systemd/system/edge-depth@.service.d/10-edge-depth-config.conf",
}


def test_the_installer_leaves_a_service_that_runs(machine):
    """Program, command, configuration, unit and template are there, and the service is enabled and started."""
    done, log = machine()
    assert 0 == done.returncode, done.stderr
    links = {path.relative_to(machine.root).as_posix() for path in machine.root.rglob("*") if path.is_symlink()}
    assert INSTALLED == installed(machine) | links
    assert ["enable edge-depth", "restart edge-depth.service"] == [
        line for line in log.splitlines() if line.startswith(("enable", "restart"))
    ]
    assert os.access(machine.root / "usr/local/bin/edge-depth", os.X_OK)


def test_an_upgrade_keeps_the_configuration_and_deletes_the_old_version(machine):
    """Run again, the program is the new one, alone; what was configured stays."""
    machine()
    before = version(machine)
    (machine.root / "etc/edge-depth/edge-depth.yaml").write_text("id: mine\n", encoding="utf-8")
    done, log = machine()
    assert 0 == done.returncode, done.stderr
    assert before != version(machine)
    assert [version(machine)] == list((machine.root / "opt/edge-depth/versions").iterdir())
    assert "id: mine\n" == (machine.root / "etc/edge-depth/edge-depth.yaml").read_text(encoding="utf-8")
    assert "restart edge-depth.service" in log


@pytest.mark.parametrize(
    ("fails", "words"),
    [("predict", "the network does not run here"), ("check", "does not take"), ("run", "Going back to the version")],
)
def test_an_upgrade_that_fails_leaves_the_old_version_running(machine, fails, words):
    """The network, the configuration, the start: whichever fails, the old program is there, the new is not."""
    machine()
    before = version(machine)
    done, log = machine(fails=fails)
    assert 1 == done.returncode
    assert words in done.stderr
    assert before == version(machine)
    assert [before] == list((machine.root / "opt/edge-depth/versions").iterdir())
    restarts = [line for line in log.splitlines() if line.startswith("restart")]
    assert (2 if fails == "run" else 0) == len(restarts)


def modes(machine):
    """Return the mode of each configuration, and that of their folder."""
    folder = machine.root / "etc/edge-depth"
    return {path.name: oct(path.stat().st_mode & 0o7777) for path in (folder, *folder.iterdir())}


def test_the_configuration_is_for_root_and_the_services_alone(machine):
    """It may hold secrets: the group reads it and nobody else, and what is put beside it is the group's too."""
    machine()
    assert {"edge-depth": "0o2755", "edge-depth.yaml": "0o640"} == modes(machine)
    for name in ("edge-depth", "edge-depth@"):
        drop_in = machine.root / f"etc/systemd/system/{name}.service.d/10-edge-depth-config.conf"
        assert f"[Service]\nSupplementaryGroups={grp.getgrgid(os.getgid()).gr_name}\n" in drop_in.read_text()


def test_an_upgrade_takes_a_configuration_from_everybody_once_the_services_are_in_the_group(machine):
    """Not before the new version runs: a version that has no such group could not read it. Others keep their rights."""
    machine()
    folder = machine.root / "etc/edge-depth"
    own, other = folder / "edge-depth.yaml", folder / "edge-depth@front.yaml"
    other.touch()
    (folder / "ca.pem").touch()
    for path, mode in ((own, 0o644), (other, 0o664), (folder / "ca.pem", 0o644), (folder, 0o755)):
        path.chmod(mode)
    assert 1 == machine(fails="run")[0].returncode
    assert "0o644" == modes(machine)["edge-depth.yaml"]
    done, _ = machine()
    assert 0 == done.returncode, done.stderr
    expected = {"edge-depth": "0o2755", "ca.pem": "0o644", "edge-depth.yaml": "0o640", "edge-depth@front.yaml": "0o640"}
    assert expected == modes(machine)
    assert "only root, its owner and the services read" in done.stderr
    own.chmod(0o600)
    assert 0 == machine()[0].returncode
    assert "0o600" == modes(machine)["edge-depth.yaml"]


def test_a_group_that_is_missing_is_made(machine, programs):
    """As a group of the system; one that is there is left alone."""
    put(programs / "getent", "exit 2")
    put(programs / "groupadd", 'echo "groupadd $*" >>"$LOG"')
    put(programs / "install", 'case "$*" in *" -g "*) exit 1 ;; *) exec /usr/bin/install "$@" ;; esac')  # no such group
    assert f"groupadd --system {GROUP}" in machine(group=GROUP)[1]


def test_installer_and_doctor_mean_one_group():
    """What doctor says is to be done fits what the installer has made."""
    assert f"\ngroup={GROUP}\n" in (ROOT / "scripts" / "install.sh").read_text(encoding="utf-8")


def test_a_first_installation_that_can_not_work_leaves_nothing(machine):
    """Where the network does not run there is no service afterwards."""
    done, log = machine(fails="predict")
    assert (1, set()) == (done.returncode, installed(machine))
    assert "enable" not in log
    assert not (machine.root / "opt/edge-depth").exists()


# The states of edge-depth and of edge-depth@front before, whether edge-depth is enabled; what is restarted and said.
STATES = [
    ("inactive", "", True, ["restart edge-depth.service"], "edge-depth runs and starts with the machine."),
    ("failed", "", True, ["restart edge-depth.service"], "edge-depth runs and starts with the machine."),
    ("inactive", "", False, [], "edge-depth is installed, but disabled, and does not run"),
    ("inactive", "active", True, ["restart edge-depth@front.service"], "edge-depth@front runs."),
    (
        "activating",
        "",
        True,
        ["restart --no-block edge-depth.service"],
        "edge-depth is being started, and does not run yet.",
    ),
    (
        "active",
        "activating",
        True,
        ["restart --no-block edge-depth@front.service", "restart edge-depth.service"],
        "edge-depth runs and starts with the machine.\nedge-depth@front is being started, and does not run yet.",
    ),
]


@pytest.mark.parametrize(("one", "front", "enabled", "restarts", "words"), STATES)
def test_an_upgrade_starts_what_is_to_run(machine, one, front, enabled, restarts, words):
    """What runs is restarted, what is about to as well; what stands still is started unless its owner disabled it."""
    machine()
    for name, state in (("edge-depth", one), ("edge-depth@front", front)):
        (machine.states / f"{name}.service").write_text(state, encoding="utf-8")
    if not enabled:
        (machine.states / "enabled" / "edge-depth.service").unlink()
    done, log = machine()
    assert 0 == done.returncode, done.stderr
    assert restarts == [line for line in log.splitlines() if line.startswith("restart")]
    assert words in done.stdout
    assert 2 >= done.stdout.count("runs") + done.stdout.count("does not run")
    assert "enable edge-depth" not in log


def test_what_is_about_to_start_comes_from_no_version_that_is_deleted(machine):
    """A service that loads, or waits for its camera, is restarted after the switch, and again after the way back."""
    machine()
    for name, state in (("edge-depth", "active"), ("edge-depth@front", "activating")):
        (machine.states / f"{name}.service").write_text(state, encoding="utf-8")
    done, log = machine(fails="run")
    assert 1 == done.returncode
    assert "Going back to the version before" in done.stderr
    steps = [line for line in log.splitlines() if line.startswith(("daemon-reload", "restart"))]
    assert ["daemon-reload", "restart --no-block edge-depth@front.service", "restart edge-depth.service"] * 2 == steps


def test_a_second_run_after_a_first_start_that_failed_starts_the_service(machine):
    """It ends with 0 only when the service runs; until then it says again what is wrong."""
    machine(fails="run")
    again, _ = machine(fails="run")
    assert (1, "") == (again.returncode, again.stdout.partition("runs")[2])
    assert "installed, but stopped" in again.stderr
    done, log = machine()
    assert 0 == done.returncode, done.stderr
    assert "edge-depth runs and starts with the machine." in done.stdout
    assert "restart edge-depth.service" in log


def test_a_first_installation_that_was_cut_off_is_done_again(machine):
    """Killed before the service was enabled, as by a power cut: the next run enables and starts it."""
    assert -9 == machine(cut_off="enable")[0].returncode
    done, log = machine()
    assert 0 == done.returncode, done.stderr
    assert ["enable edge-depth", "restart edge-depth.service"] == [
        line for line in log.splitlines() if line.startswith(("enable", "restart"))
    ]
    assert "edge-depth runs and starts with the machine." in done.stdout
    assert [version(machine)] == list((machine.root / "opt/edge-depth/versions").iterdir())


def test_a_configuration_that_the_old_version_refuses_too_is_no_reason_to_stop(machine):
    """As one with a variable that only the service has: the upgrade warns and goes on, and the start decides."""
    machine()
    before = version(machine)
    old = before / "bin" / "edge-depth"
    put(old, '[ "$1" != check ]')
    done, log = machine(fails="check")
    assert 0 == done.returncode, done.stderr
    assert "edge-depth.yaml is refused, as said above: no version before has taken it here" in done.stderr
    assert before != version(machine)
    assert "restart edge-depth.service" in log


def test_a_kept_configuration_does_not_stop_a_new_installation(machine):
    """There is nothing that could be harmed, and the first start tells more."""
    machine()
    machine("--uninstall")
    done, _ = machine(fails="check")
    assert 0 == done.returncode, done.stderr
    assert "is refused, as said above" in done.stderr


def test_a_first_start_that_fails_is_explained(machine):
    """No camera yet: the program stays, the service is stopped, and what is wrong is said by doctor."""
    done, log = machine(fails="run")
    assert 1 == done.returncode
    assert "installed, but stopped" in done.stderr
    assert ["stop edge-depth", f"doctor --config {machine.root}/etc/edge-depth/edge-depth.yaml"] == log.splitlines()[
        -2:
    ]
    assert version(machine).is_dir()


def test_uninstalling_leaves_the_configuration(machine):
    """Everything else is gone, and the service was stopped and disabled before."""
    machine()
    done, log = machine("--uninstall")
    assert (0, {"etc/edge-depth/edge-depth.yaml"}) == (done.returncode, installed(machine))
    assert "stop edge-depth.service\ndisable edge-depth.service\n" in log
    assert not (machine.root / "opt/edge-depth").exists()
