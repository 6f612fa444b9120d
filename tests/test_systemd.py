"""The unit file, as systemd reads it."""

import shlex
import shutil
import signal
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "systemd" / "edge-depth.service"
DROP_INS = sorted(
    set((UNIT.parent / "examples").glob("*.conf")) - {UNIT.parent / "examples" / "hardware-watchdog.conf"}
)
PROGRAM = "/opt/edge-depth/venv/bin/edge-depth"


@pytest.fixture
def service():
    # Not strict: DeviceAllow= stands there more than once, and is read otherwise below.
    unit = RawConfigParser(strict=False, delimiters=("=",))
    unit.optionxform = str
    unit.read_string(UNIT.read_text(encoding="utf-8"))
    return unit["Service"]


def verify(folder, text, name=UNIT.name):
    """Return exit status and output of systemd-analyze for a unit whose program exists."""
    path = folder / name
    path.write_text(text.replace(PROGRAM, "/bin/true"), encoding="utf-8")
    return analyze("verify", str(path))


def analyze(*arguments):
    assert shutil.which("systemd-analyze"), "systemd-analyze is missing: sudo apt install systemd"
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def test_systemd_finds_nothing_to_say(tmp_path):
    """The unit passes systemd-analyze verify without a word: it exits 0 for unknown names and bad values too."""
    assert (0, "") == verify(tmp_path, UNIT.read_text(encoding="utf-8"))


def test_a_misspelt_name_is_noticed(tmp_path):
    """The test above does not pass because nothing is looked at."""
    _, output = verify(tmp_path, UNIT.read_text(encoding="utf-8").replace("WatchdogSec=", "WatchdogSecs="))
    assert "WatchdogSecs" in output


def test_the_unit_is_a_template_too(tmp_path):
    """Installed under the name of a template, an instance of it passes without a word."""
    text = UNIT.read_text(encoding="utf-8")
    (tmp_path / "edge-depth@.service").write_text(text.replace(PROGRAM, "/bin/true"), encoding="utf-8")
    assert (0, "") == verify(tmp_path, text, "edge-depth@front-door.service")


def test_every_instance_has_files_of_its_own(service):
    """Configuration, state and cache go by the unit's name, so that two cameras share none of them."""
    assert service["ExecStart"].endswith("/etc/edge-depth/%N.yaml")
    assert ("%N", "%N", "XDG_CACHE_HOME=%C/%N") == (
        service["StateDirectory"],
        service["CacheDirectory"],
        service["Environment"],
    )


def test_services_on_the_same_cores_do_not_wait_for_each_other_in_circles():
    """Unit and container keep torch's threads from counting while another's should work."""
    for name in ("systemd/edge-depth.service", "scripts/Containerfile"):
        assert "GOMP_SPINCOUNT=1000\n" in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", DROP_INS, ids=lambda path: path.stem)
def test_the_drop_ins_are_understood(tmp_path, path):
    """Each example passes without a word as a drop-in of the unit, and a slip in it would be noticed."""
    folder = tmp_path / f"{UNIT.name}.d"
    folder.mkdir()
    text = path.read_text(encoding="utf-8")
    (folder / path.name).write_text(text, encoding="utf-8")
    assert (0, "") == verify(tmp_path, UNIT.read_text(encoding="utf-8"))
    (folder / path.name).write_text(text.replace("=", "s=", 1), encoding="utf-8")
    assert "" != verify(tmp_path, UNIT.read_text(encoding="utf-8"))[1]


def test_the_exposure_is_small():
    """2.0 at most by systemd's own count, which reaches from 0 to 10; it is not so low that the limit is no limit."""
    assert 0 == analyze("security", "--offline=true", "--no-pager", "--threshold=20", str(UNIT))[0]
    assert 1 == analyze("security", "--offline=true", "--no-pager", "--threshold=15", str(UNIT))[0]


def test_systemd_knows_when_the_daemon_is_ready_and_when_it_hangs(service):
    """The daemon tells that it is ready and that it lives; without a sign for a minute it is restarted."""
    assert ("notify", "main", "60") == (service["Type"], service["NotifyAccess"], service["WatchdogSec"])


def test_a_wrong_configuration_is_not_tried_again_but_a_missing_camera_is(service):
    """Exit status 78 waits for somebody to mend the file; any other failure is tried again for ever."""
    assert "on-failure" == service["Restart"]
    assert ["78"] == service["RestartPreventExitStatus"].split()
    assert "StartLimitIntervalSec=0\n" in UNIT.read_text(encoding="utf-8")
    assert int(service["RestartSec"]) >= 5


def test_the_program_is_the_one_that_install_puts_there(service):
    """The unit and scripts/install.sh agree on the program and the configuration."""
    assert service["ExecStart"].endswith(f" {PROGRAM} run --config /etc/edge-depth/%N.yaml")
    installer = (UNIT.parents[1] / "scripts" / "install.sh").read_text(encoding="utf-8")
    assert "prefix=$target/opt/edge-depth\ncommand=$prefix/venv/bin/edge-depth\n" in installer
    assert "config=$target/etc/edge-depth/edge-depth.yaml\n" in installer


def test_the_camera_can_be_seen():
    """Every device that V4L2 and libcamera open is allowed; any DeviceAllow= forbids all that is not named."""
    allowed = {line for line in UNIT.read_text(encoding="utf-8").splitlines() if line.startswith("DeviceAllow=")}
    assert {f"DeviceAllow=char-{name} rw" for name in ("video4linux", "media", "dma_heap")} == allowed


def test_libcamera_finds_its_devices(service):
    """It asks udev over netlink, and the daemon is in the group that owns cameras."""
    assert {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"} == set(service["RestrictAddressFamilies"].split())
    assert "video" == service["SupplementaryGroups"]


@pytest.mark.parametrize("name", ["PrivateDevices", "ProtectClock", "MemoryDenyWriteExecute", "ProcSubset"])
def test_what_breaks_the_camera_or_torch_is_not_asked_for(service, name):
    """PrivateDevices and ProtectClock hide the camera; torch needs executable memory and /proc/cpuinfo."""
    assert name not in service


def test_the_daemon_runs_as_nobody_in_particular(service):
    """A user of its own for the time that it runs, one writable folder, no way to more rights."""
    assert ("yes", "%N") == (service["DynamicUser"], service["StateDirectory"])
    assert ("strict", "yes", "yes") == (
        service["ProtectSystem"],
        service["ProtectHome"],
        service["NoNewPrivileges"],
    )
    assert "" == service["CapabilityBoundingSet"]


def test_the_log_is_bounded(service):
    """Also what C libraries write themselves, such as libjpeg of each damaged picture that somebody sends."""
    assert ("10min", "1000") == (service["LogRateLimitIntervalSec"], service["LogRateLimitBurst"])


def test_a_reload_is_the_signal_that_the_daemon_takes_and_can_fail():
    """`systemctl reload` sends SIGHUP, and then looks at the file itself, so that it fails with a bad one."""
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    reload = [line.partition("=")[2] for line in lines if line.startswith("ExecReload=")]
    assert ["/bin/sh -c 'kill -HUP ${MAINPID}'", f"{PROGRAM} check /etc/edge-depth/%N.yaml"] == reload


def test_a_hangup_is_not_deadly_before_the_program_knows_of_it(service):
    """Python starts with SIGHUP ignored, and with the arguments as they are; what dies of it is started again."""
    show = "import signal, sys; print(signal.getsignal(signal.SIGHUP).name, *sys.argv[1:])"
    command = shlex.split(service["ExecStart"].replace("$$", "$").replace(PROGRAM, f"{sys.executable} -c '{show}'"))
    command = [part.replace("%N", "edge-depth@a b's") for part in command]
    default = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)  # noqa: E731
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, preexec_fn=default)
    assert "SIG_IGN run --config /etc/edge-depth/edge-depth@a b's.yaml\n" == done.stdout
    assert "SIGHUP" == service["RestartForceExitStatus"]
