"""What keeps the daemon from working on this machine, in words, and the command that helps.

Whatever may crash or hang is tried in a child process of its own (`edge.doctor.apart`).
"""

import errno
import grp
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from edge import config as configuration
from edge.config import STREAM, Config, TlsSection, hides_state, load, service_state, state_directory
from edge.depth.engines import folder_of
from edge.depth.weights import STARTER, identify
from edge.depth.weights import load as load_weights
from edge.doctor.ailments import GROUP, INSTALL, Finding, diagnosed, found
from edge.doctor.apart import try_apart
from edge.errors import ConfigError, EngineError, WeightsError
from edge.system.machine import machine_name
from edge.system.owner import become_owner
from edge.topics import machine_id

__all__ = ["Finding", "examine"]

_CREDENTIALS = Path("/run/credentials")  # of services that run, one folder each; only root looks in
_UNIT = "edge-depth"
_LEAST_FREE_BYTES = 100_000_000
_PIS_OWN_NAME = "raspberrypi"


def examine(path: Path | None) -> Iterator[Finding]:
    """Yield what is found, one thing after the other; without a configuration camera and broker are not tried.

    For a configuration of the service $STATE_DIRECTORY and $CREDENTIALS_DIRECTORY are set to the service's, where they
    are there.
    """
    service = path is not None and path.parent == configuration.SERVICES and shutil.which("systemctl") is not None
    unit = path.stem if path is not None and service else _UNIT
    if path is not None and service and not _take_over(path):
        words = f"what {unit} keeps is for root to see; `sudo edge-depth doctor` looks there, and not at this user's"
        yield Finding("note", "state", words)
    for finding in _findings(path, service):
        yield replace(finding, command=finding.command.replace("{unit}", unit))


def _take_over(path: Path) -> bool:
    """Look where the service does for what it keeps and for its secrets; return whether we may look there."""
    state, credentials = service_state(path), _CREDENTIALS / f"{path.stem}.service"
    if state:
        os.environ.setdefault("STATE_DIRECTORY", str(state))
    if os.access(credentials, os.R_OK | os.X_OK):
        os.environ.setdefault("CREDENTIALS_DIRECTORY", str(credentials))
    return not hides_state(path)


def _findings(path: Path | None, service: bool) -> Iterator[Finding]:
    yield _machine()
    yield _clock()
    yield from _configuration(path, service)
    try:
        config = load(path) if path else Config()
    except ConfigError:
        config = None  # told above
    become_owner(state_directory())  # what the service can't, the doctor can't from here on
    yield _state()
    yield try_apart("torch", None)
    if find_spec("onnxruntime"):
        yield try_apart("onnxruntime", None)
    if config is None:
        return
    yield _weights(config)
    yield from _engines(config)
    yield try_apart("network", path)
    if path is None:
        return
    running = service and _is_running(f"{path.stem}.service")
    if service:
        yield _service(f"{path.stem}.service", running)
    if running and not STREAM.match(config.camera.source):
        yield Finding("note", "camera", "held by the service, which runs; to try it here stop the service first")
    else:
        yield try_apart("camera", path)
    if config.mqtt.enabled:
        yield (_lacks_credential(config) if service else None) or try_apart("broker", path)


def _lacks_credential(config: Config) -> Finding | None:
    """Return what to say where the broker's password is one of systemd's credentials that can't be had here."""
    name = config.mqtt.password_file
    if name is None or Path(name).is_absolute():
        return None
    try:
        config.mqtt.read_password()
    except ConfigError:
        words = (
            f"mqtt.password_file: {name} is for the service alone; while it runs, `sudo edge-depth doctor` reads it too"
        )
        return Finding("note", "broker", words)
    return None


def _machine() -> Finding:
    version, bits = platform.python_version(), 64 if sys.maxsize > 2**32 else 32
    words = f"Python {version}, {bits}-bit, {platform.machine()}; {machine_name()}"
    if (3, 11) <= sys.version_info[:2] <= (3, 13) and bits == 64:
        return Finding("ok", "machine", words)
    return found("Python or system too old", words)


def _clock() -> Finding:
    """Compare the clock with the age of the program: a Pi without a network starts somewhere in the past."""
    now, installed = time.time(), Path(__file__).stat().st_mtime
    words = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"
    if now < installed - 86400:
        return found("clock in the past", f"{words} is before this program was installed")
    return Finding("ok", "clock", words)


def _configuration(path: Path | None, service: bool) -> Iterator[Finding]:
    if path is None:
        yield Finding("note", "configuration", "none given; camera and broker are not tried. Name one with --config")
        return
    try:
        config = load(path)
    except ConfigError as error:
        yield found("configuration refused", "; ".join(error.problems))
        return
    secret, named = _files(path, config)
    hidden = [file for file in (*secret, *named) if not _service_reads(file)] if service else []
    others = _of_the_same_id(path, config) if service else []
    if others:
        yield found("two cameras of one id", f"{config.id or machine_id()} in {path} and {', '.join(map(str, others))}")
    if hidden:
        yield _to_share("file hidden from the service", "the service can't read", hidden)
    elif config.id is None and machine_id() == _PIS_OWN_NAME:
        yield found(
            "host name of every new Pi",
            f"{path}: no id, and the host is called {_PIS_OWN_NAME}, like every new Raspberry Pi",
        )
    else:
        yield Finding("ok", "configuration", f"{path}, id {config.id or machine_id()}")
    if service and (open_ := [file for file in secret if file.exists() and file.stat().st_mode & stat.S_IROTH]):
        yield _to_share("secret for everybody to read", "everybody on this machine can read", open_)
    for warning in config.warnings:
        yield Finding("note", "configuration", warning)


def _of_the_same_id(path: Path, config: Config) -> list[Path]:
    """Return the other files of services of this machine whose topics are the same on the same broker."""
    found = []
    for other in sorted(path.parent.glob(f"{_UNIT}*.yaml")):
        try:
            if other != path and _topics(load(other)) == _topics(config):
                found.append(other)
        except ConfigError:
            pass  # told when that one is examined
    return found


def _topics(config: Config) -> tuple[str, int, str, str]:
    section = config.mqtt
    return section.host, section.port, section.base_topic, config.id or machine_id()


def _files(path: Path, config: Config) -> tuple[list[Path], list[Path]]:
    """Return the files that hold secrets, and what else the configuration names; systemd's credentials are neither."""
    tls = config.mqtt.tls or TlsSection()
    kept = [config.mqtt.password_file, config.web.token_file, tls.key]
    secret = [path] if _holds_secrets(config) else []
    secret += [Path(name) for name in kept if name and Path(name).is_absolute()]
    named = [path, *(Path(name) for name in (tls.ca, tls.cert) if name)]
    return secret, [file for file in named if file not in secret]


def _holds_secrets(config: Config) -> bool:
    camera = config.camera
    return any((config.mqtt.password, config.web.token, camera.safe_source != camera.source))


def _service_reads(file: Path) -> bool:
    """Return whether the service's user can read a file; one that we can't see is told elsewhere."""
    if not os.access(file, os.R_OK):
        return True
    status = file.stat()
    ours = bool(status.st_mode & stat.S_IRGRP) and status.st_gid == _group_id()
    return ours or bool(status.st_mode & stat.S_IROTH)


def _group_id() -> int | None:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def _to_share(symptom: str, words: str, files: list[Path]) -> Finding:
    """Return the finding of files that the group should read; where there is no such group, the installer makes it."""
    quoted = " ".join(shlex.quote(str(file)) for file in files)
    finding = found(symptom, f"{words} {', '.join(map(str, files))}")
    command = finding.command.replace("FILE", quoted) if _group_id() is not None else INSTALL
    return replace(finding, command=command)


def _state() -> Finding:
    """Try to write where the daemon keeps what it has learned."""
    folder = state_directory()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return found(
            "disk full" if full else "state directory read-only", f"{folder} can't be written: {error.strerror}"
        )
    free = shutil.disk_usage(there).free
    if free < _LEAST_FREE_BYTES:
        return found("disk full", f"{free / 1e6:.0f} MB free in {there}; 100 MB are wanted")
    return Finding("ok", "state", f"{folder} can be written, {free / 1e9:.1f} GB free")


def _weights(config: Config) -> Finding:
    try:
        info, _ = load_weights(config.model.weights)
    except WeightsError as error:
        return diagnosed("weights", str(error))
    words = f"{info.name}, {info.path}"
    return found("starter weights", words) if info.name == STARTER.name else Finding("ok", "weights", words)


def _engines(config: Config) -> Iterator[Finding]:
    """Look at the files of the faster engines; tell where nobody has made them."""
    try:
        files = folder_of(identify(config.model.weights))
        record = files.record()
        for name in record.engines if record else ():
            files.path(name, refused=True)
        if words := files.foreign():
            yield found("engine files for another kind of processor", words)
        elif record:
            yield Finding("ok", "engines", f"{', '.join(record.engines)} in {files.folder}")
        elif config.model.engine == "auto":
            yield found("no faster engine than torch", f"there are no engine files in {files.folder}")
    except WeightsError:
        pass  # told before
    except EngineError as error:
        yield diagnosed("engines", str(error))


def _is_running(unit: str) -> bool:
    return _systemctl(unit, "ActiveState") == "active"


def _service(unit: str, running: bool) -> Finding:
    state = _systemctl(unit, "ActiveState")
    if running:
        return Finding("ok", "service", f"{unit} runs: {_systemctl(unit, 'StatusText')}")
    if state in ("", "inactive"):
        return Finding("note", "service", f"{unit} does not run; sudo systemctl enable --now {unit}")
    return found("service failed", f"{unit} is {state}; its last exit status was {_systemctl(unit, 'ExecMainStatus')}")


def _systemctl(unit: str, name: str) -> str:
    """Return a property of a unit; empty where there is no systemd."""
    command = ["systemctl", "show", "--value", f"--property={name}", unit]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
