"""`edge-depth doctor`: what keeps the daemon from working, said in words."""

import getpass
import hashlib
import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge import doctor
from edge.cli import main
from edge.depth.engines import EngineFile, Record, folder_of
from edge.depth.weights import identify
from edge.doctor import __main__ as checks
from edge.doctor import ailments, apart
from tests.broker import Mosquitto, free_port, make_certificates
from tests.camera_rigs import MjpegServer

ROOT = Path(__file__).parents[1]
SYMPTOMS = [each.symptom for each in ailments.AILMENTS]


def write(folder, text):
    path = folder / "test.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def symptom(finding):
    """Return the symptom in the README's table that a finding belongs to."""
    (found,) = [each for each in ailments.AILMENTS if each.cause == finding.cause]
    return found.symptom


def broker_of(folder, port, more=""):
    return apart.try_apart("broker", write(folder, f"mqtt: {{host: 127.0.0.1, port: {port}{more}}}\n"))


def test_a_machine_on_which_all_is_well(mosquitto, photos, tmp_path, capsys):
    """Every check says what it found; starter weights and missing engine files are notes; the exit status is 0."""
    text = f"id: test\ncamera: {{source: {photos}}}\nmqtt: {{host: 127.0.0.1, port: {mosquitto.port}}}\n"
    assert 0 == main(["doctor", "--config", str(write(tmp_path, text))])
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")}
    assert {"machine", "clock", "configuration", "state", "torch", "weights", "network", "camera", "broker"} <= set(
        lines
    )
    assert ["weights", "engines"] == [name for name, line in lines.items() if not line.startswith("ok ")]
    assert "starter-v2 on torch" in lines["network"]
    assert f"127.0.0.1:{mosquitto.port} accepts this client" in lines["broker"]


def test_what_is_wrong_is_counted_and_told_with_its_command(tmp_path, capsys):
    """A broken configuration: exit status 1, the line and key, the command that helps; the rest is checked even so."""
    assert 1 == main(["doctor", "--config", str(write(tmp_path, "mqtt: {port: 99999}\n"))])
    out = capsys.readouterr().out
    assert "WRONG configuration" in out
    assert "test.yaml:1: mqtt.port: must be 1..65535, not 99999" in out
    assert "$ edge-depth check FILE" in out
    assert "ok    torch" in out


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("kill -ILL $$", "illegal instruction (SIGILL)"),
        ("kill -KILL $$", "killed (SIGKILL), or can't allocate memory"),
        ("kill -SEGV $$", "a crash (SIGSEGV, SIGBUS)"),
        (
            "echo 'ImportError: libgomp.so.1: cannot open shared object file: No such file or directory' >&2; exit 1",
            "library missing (`.so`: cannot open shared object file)",
        ),
        ("echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1", "No module named …"),
        (
            "echo 'RuntimeError: operator torchvision::nms does not exist' >&2; exit 1",
            "operator torchvision::nms does not exist",
        ),
        ("echo 'RuntimeError: something new' >&2; exit 1", "torch or the network fails otherwise"),
    ],
)
def test_whatever_ends_torch_is_told_apart(tmp_path, monkeypatch, body, expected):
    """The child's end, by a signal or with a message, has a cause and a command; we live on."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    finding = apart.try_apart("torch", None)
    assert ("wrong", expected) == (finding.state, symptom(finding))


def test_a_check_that_hangs_is_given_up(tmp_path, monkeypatch):
    """Like a driver that never returns."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    monkeypatch.setitem(apart._TIMEOUT_SECONDS, "camera", 0.1)
    assert "a check that does not end" == symptom(apart.try_apart("camera", None))


def test_what_a_broker_refuses_is_told_apart(tmp_path):
    """A wrong password, a topic that the access list keeps, TLS against a plain port, nobody there."""
    acl = "user camera\ntopic read #\n"
    with Mosquitto(tmp_path / "broker", passwords={"camera": "right"}, acl=acl) as broker:
        wrong = broker_of(tmp_path, broker.port, ", username: camera, password: wrong")
        kept = broker_of(tmp_path, broker.port, ", username: camera, password: right, protocol: '5'")
        tls = broker_of(tmp_path, broker.port, ", tls: {}")
    nobody = broker_of(tmp_path, free_port())
    found = [symptom(finding) for finding in (wrong, kept, tls, nobody)]
    assert ["login refused", "topics refused", "certificate or TLS refused", "broker can't be reached"] == found
    assert "wrong" not in wrong.words.replace("wrong user", "")  # the password


def test_a_certificate_that_has_run_out_is_told(tmp_path):
    """With the wrong clock as a possible cause."""
    certificates = make_certificates(tmp_path / "tls", expired=True)
    with Mosquitto(tmp_path / "broker", tls=certificates) as broker:
        finding = broker_of(tmp_path, broker.port, f", tls: {{ca: {certificates.ca}}}")
    assert "expired" in finding.words
    assert "timedatectl" in finding.command


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("picamera2", "no picamera2 in the environment"),
        ("/dev/video99", "no such camera device"),
        ("/no/such/folder", "no such file or folder"),
        ("http://user:secret@127.0.0.1:1/x", "stream can't be opened"),
    ],
)
def test_a_camera_that_is_not_there_is_told(tmp_path, source, expected):
    """Each kind has its cause; no password is repeated."""
    finding = apart.try_apart("camera", write(tmp_path, f"camera: {{source: '{source}', timeout: 2.0}}\n"))
    assert ("wrong", expected) == (finding.state, symptom(finding))
    assert "secret" not in finding.words


def test_a_camera_that_is_not_allowed_is_told(monkeypatch):
    """With the device and the user, and the group that helps."""
    monkeypatch.setattr("os.access", lambda *_: False)
    words = checks._local_problem("/dev/null")
    assert f"{getpass.getuser()} is not allowed to open /dev/null: " == words
    assert "camera not allowed" == symptom(ailments.diagnosed("camera", words))


def test_a_stream_that_works_and_one_that_is_black(tmp_path):
    """The size is told; a black picture is a note."""
    server = MjpegServer()
    try:
        well = apart.try_apart("camera", write(tmp_path, f"camera: {{source: '{server.url}'}}\n"))
        masks = "privacy_masks: [[[0, 0], [1, 0], [1, 1], [0, 1]]]"
        black = apart.try_apart("camera", write(tmp_path, f"camera: {{source: '{server.url}', {masks}}}\n"))
    finally:
        server.close()
    assert ("ok", True) == (well.state, well.words.endswith("delivers 96x64"))
    assert ("note", "black picture") == (black.state, symptom(black))


def examining(path, *tried):
    """Yield the findings; of what is tried in a process of its own only that."""

    def try_apart(check, config):
        return apart.try_apart(check, config) if check in tried else ailments.Finding("ok", check, "works")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "try_apart", try_apart)
        yield from doctor.examine(path)


def examined(path, name):
    """Return the first finding of that name, without waiting for what comes before or after it."""
    return next(finding for finding in examining(path, name) if finding.name == name)


def test_weights_that_are_not_there_are_told(tmp_path):
    """With the command that fetches them."""
    finding = examined(write(tmp_path, "model: {weights: midas_v21_small_256}\n"), "weights")
    assert ("wrong", "weights missing or damaged") == (finding.state, symptom(finding))


def test_engine_files_that_are_missing_or_damaged_are_told(tmp_path):
    """Missing they are a note, with the command that makes them; a configuration that asks for torch needs none."""
    finding = examined(write(tmp_path, "model: {weights: starter-v2}\n"), "engines")
    assert ("note", "no faster engine than torch") == (finding.state, symptom(finding))
    torch = examining(write(tmp_path, "model: {weights: starter-v2, engine: torch}\n"))
    assert "engines" not in [each.name for each in itertools.takewhile(lambda each: each.name != "network", torch)]
    files = folder_of(identify("starter-v2"))
    files.folder.mkdir(parents=True)
    (files.folder / "network.torchscript").write_bytes(b"whole")
    whole = EngineFile(sha256=hashlib.sha256(b"whole").hexdigest(), delta1=1.0, residual=0.0, accepted=True)
    files.write(Record(made_by="a test", calibration="photographs", engines={"torchscript": whole}))
    finding = examined(write(tmp_path, "model: {weights: starter-v2}\n"), "engines")
    assert ("ok", f"torchscript in {files.folder}") == (finding.state, finding.words)
    for name in ("network.torchscript", "manifest.json"):
        (files.folder / name).write_text("{")
        finding = examined(write(tmp_path, "model: {weights: starter-v2}\n"), "engines")
        assert ("wrong", "engine files damaged") == (finding.state, symptom(finding))


def test_a_full_disk_and_a_read_only_folder_are_told(tmp_path, monkeypatch):
    """What is learned could not be kept."""
    monkeypatch.setenv("STATE_DIRECTORY", "/proc/edge-depth")
    assert "state directory read-only" == symptom(examined(None, "state"))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr("edge.doctor.shutil.disk_usage", lambda _: usage)
    assert "disk full" == symptom(examined(None, "state"))


def test_a_clock_that_is_wrong_is_told(monkeypatch):
    """Before the program was installed it can't be."""
    monkeypatch.setattr("edge.doctor.time.time", lambda: 0.0)
    finding = examined(None, "clock")
    assert ("wrong", "clock in the past") == (finding.state, symptom(finding))
    assert "1970-01-01" in finding.words


def test_what_the_service_can_not_read_is_told(tmp_path, monkeypatch):
    """A password, a token or a key for root alone stops the service, a user of its own; its group may read them."""
    monkeypatch.setattr("edge.config.SERVICES", tmp_path)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/systemctl")
    monkeypatch.setattr(doctor, "_group_id", os.getgid)
    secret, token, key = files = [tmp_path / name for name in ("secret", "to ken", "key")]
    for path in (*files, tmp_path / "cert"):
        path.touch(mode=0o600)
    path = write(
        tmp_path,
        f"mqtt: {{username: a, password_file: {secret}, tls: {{cert: {tmp_path}/cert, key: {key}}}}}\n"
        f"web: {{listen: '0.0.0.0:80', token_file: '{token}'}}\n",
    )
    finding = examined(path, "configuration")
    assert "file hidden from the service" == symptom(finding)
    assert f"the service can't read {secret}, {token}, {key}, {tmp_path}/cert" == finding.words
    quoted = f"{secret} '{token}' {key} {tmp_path}/cert"
    assert f"sudo chgrp edge-depth-config {quoted} && sudo chmod 640 {quoted}" == finding.command
    subprocess.run(["chmod", "640", *files, tmp_path / "cert"], check=True)
    assert "ok" == examined(path, "configuration").state
    monkeypatch.setattr(doctor, "_group_id", lambda: None)
    assert "sudo scripts/install.sh" == examined(path, "configuration").command


def test_a_secret_that_everybody_can_read_is_told(tmp_path, monkeypatch):
    """A configuration with one in it, or a key; not one without, nor a certificate."""
    monkeypatch.setattr("edge.config.SERVICES", tmp_path)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/systemctl")
    monkeypatch.setattr(doctor, "_group_id", os.getgid)
    for name in ("key", "cert"):
        (tmp_path / name).touch(mode=0o644)
    tls = f"tls: {{cert: {tmp_path}/cert, key: {tmp_path}/key}}"

    def told(text):
        path = write(tmp_path, text)
        path.chmod(0o644)
        found = itertools.takewhile(lambda finding: finding.name != "state", doctor.examine(path))
        return [finding.words for finding in found if finding.command.startswith("sudo chgrp")]

    assert [] == told("id: test\nmqtt: {username: a}\n")
    assert [f"everybody on this machine can read {tmp_path}/test.yaml"] == told(
        "id: test\nmqtt: {username: a, password: b}\n"
    )
    assert [f"everybody on this machine can read {tmp_path}/key"] == told(f"id: test\nmqtt: {{{tls}}}\n")
    assert told("id: test\ncamera: {source: 'rtsp://u:p@cam/'}\n")


def test_no_command_opens_a_file_to_everybody():
    """Keys and passwords stay with those who need them."""
    assert [] == [
        each.symptom for each in ailments.AILMENTS if re.search(r"chmod \S*(a|o)\+|chmod \d\d[4-7]", each.command)
    ]


def test_without_sudo_the_service_s_own_is_not_looked_at(tmp_path, monkeypatch):
    """That is said, since the user's own state and weights are other ones."""
    monkeypatch.setattr("edge.config.SERVICES", tmp_path)
    monkeypatch.setattr("edge.config.SERVICE_STATES", tmp_path / "lib")
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/systemctl")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "test").symlink_to(tmp_path / "private" / "test")  # as if it could not be seen
    assert "what test keeps is for root" in next(iter(doctor.examine(write(tmp_path, "camera: {}\n")))).words
    assert "STATE_DIRECTORY" not in os.environ
    monkeypatch.setenv("STATE_DIRECTORY", "")
    monkeypatch.delenv("STATE_DIRECTORY")  # to be taken away again at the end
    (tmp_path / "private" / "test").mkdir(parents=True)
    assert str(tmp_path / "lib" / "test") in examined(write(tmp_path, "camera: {}\n"), "state").words


def test_two_pis_of_one_name_are_warned_of(tmp_path, monkeypatch):
    """Every new Raspberry Pi is called raspberrypi; with an id of its own that does not matter."""
    monkeypatch.setattr("socket.gethostname", lambda: "raspberrypi")
    assert "note" == examined(write(tmp_path, "camera: {}\n"), "configuration").state
    assert "ok" == examined(write(tmp_path, "id: hall\ncamera: {}\n"), "configuration").state


def test_two_cameras_of_one_id_are_told(tmp_path, monkeypatch):
    """A copied file keeps the id; one that is broken is examined by itself. On another broker nothing collides."""
    monkeypatch.setattr("edge.config.SERVICES", tmp_path)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/systemctl")
    path = tmp_path / "edge-depth@back.yaml"
    path.write_text("id: door\ncamera: {}\n", encoding="utf-8")
    (tmp_path / "edge-depth.yaml").write_text("id: door\ncamera: {}\n", encoding="utf-8")
    (tmp_path / "edge-depth@broken.yaml").write_text("id: 1\n", encoding="utf-8")
    finding = examined(path, "configuration")
    assert ("wrong", "two cameras of one id") == (finding.state, symptom(finding))
    assert f"door in {path} and {tmp_path}/edge-depth.yaml" == finding.words
    path.write_text("id: door\nmqtt: {host: elsewhere}\n", encoding="utf-8")
    assert "ok" == examined(path, "configuration").state
    path.write_text("camera: {}\n", encoding="utf-8")
    assert "ok" == examined(path, "configuration").state


def test_a_password_that_the_service_alone_has_is_no_fault(tmp_path, monkeypatch, mosquitto):
    """While it runs root reads it where systemd keeps it; else that is said, and the broker is not tried."""
    monkeypatch.setattr("edge.config.SERVICES", tmp_path)
    monkeypatch.setattr(doctor, "_CREDENTIALS", tmp_path / "credentials")
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/systemctl")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "")  # doctor sets it; so it is taken away again
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    text = f"mqtt: {{host: 127.0.0.1, port: {mosquitto.port}, username: a, password_file: broker-password}}\n"
    path = tmp_path / "edge-depth@front.yaml"
    path.write_text(f"camera: {{source: 'http://127.0.0.1:1/'}}\n{text}", encoding="utf-8")
    finding = examined(path, "broker")
    assert ("note", "mqtt.password_file: broker-password is for the service alone") == (
        finding.state,
        finding.words.partition(";")[0],
    )
    kept = tmp_path / "credentials" / "edge-depth@front.service"
    kept.mkdir(parents=True)
    (kept / "broker-password").write_text("secret\n", encoding="utf-8")
    assert "ok" == examined(path, "broker").state


def test_commands_name_the_service_that_was_asked_about(tmp_path, monkeypatch):
    """One of several has a state directory and a journal of its own."""
    monkeypatch.setattr("edge.config.SERVICES", tmp_path)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/systemctl")
    text = "model: {weights: starter-v2}\n"
    path = tmp_path / "edge-depth@front.yaml"
    path.write_text(text, encoding="utf-8")
    wanted = "sudo STATE_DIRECTORY=/var/lib/{} edge-depth export"
    assert wanted.format("edge-depth@front") == examined(path, "engines").command
    assert wanted.format("edge-depth") == examined(write(tmp_path / "..", text), "engines").command


def test_the_readme_has_every_symptom_cause_and_command():
    """The table of systemd/README.md is the one that doctor goes by."""
    text = (ROOT / "systemd" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| `([^|`]+)` \|$", text, re.MULTILINE)
    wanted = [(each.symptom, each.cause, each.command.replace("{unit}", "edge-depth")) for each in ailments.AILMENTS]
    assert [] == [row for row in wanted if row not in rows]


def test_every_symptom_differs():
    """A symptom names its ailment."""
    assert len(SYMPTOMS) == len(set(SYMPTOMS))


@pytest.mark.parametrize(("systemctl", "told"), [("/usr/bin/systemctl", True), (None, False)])
def test_the_service_is_asked_about_where_there_is_systemd(tmp_path, monkeypatch, systemctl, told):
    """In a container the configuration lies where the service's would, and there is none."""
    monkeypatch.setattr("edge.config.SERVICES", tmp_path)
    monkeypatch.setattr(doctor, "_systemctl", lambda *_: "")
    monkeypatch.setattr("shutil.which", lambda name: systemctl if name == "systemctl" else None)
    names = [finding.name for finding in examining(write(tmp_path, "model: {weights: starter-v2}\n"))]
    assert told == ("service" in names)
    assert {"camera", "broker", "network"} <= set(names)
