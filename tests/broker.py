"""A real mosquitto on a free port of 127.0.0.1, and a subscriber that keeps what it hears."""

import getpass
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

HOST = "127.0.0.1"
PATIENCE_SECONDS = 60.0


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server((HOST, 0)) as server:
        return server.getsockname()[1]


def eventually(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until `condition` holds; fail with `what` was waited for when it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


@dataclass(frozen=True)
class Certificates:
    """Files in PEM form: an authority, the broker's pair signed by it (for 127.0.0.1 and localhost), and a client's."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


def make_certificates(folder: Path, *, expired: bool = False) -> Certificates:
    """Make an authority and two certificates of it with the openssl command; the broker's may have run out."""
    folder.mkdir(parents=True, exist_ok=True)
    _openssl(
        folder, "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=authority", "ca"
    )
    for name in ("server", "client"):
        _openssl(
            folder,
            f"req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN={name} "
            "-addext subjectAltName=IP:127.0.0.1,DNS:localhost -addext basicConstraints=critical,CA:FALSE "
            "-CA ca.crt -CAkey ca.key",
            name,
        )
    if expired:
        copy = "-copy_extensions copyall"
        for command in (
            f"x509 -x509toreq -in server.crt -signkey server.key {copy} -out server.csr",
            f"x509 -req -in server.csr {copy} -CA ca.crt -CAkey ca.key -CAcreateserial -days -1 -out server.crt",
        ):
            subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    pairs = [folder / f"{name}.{ending}" for name in ("server", "client") for ending in ("crt", "key")]
    return Certificates(folder / "ca.crt", *pairs)


def _openssl(folder: Path, options: str, name: str) -> None:
    command = ["openssl", *options.split(), "-keyout", f"{name}.key", "-out", f"{name}.crt"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@dataclass
class Mosquitto:
    """A mosquitto that keeps nothing on disk; as a context manager it runs within the `with`.

    `passwords` are {user: password}, `acl` is the text of an access list, `tls` encrypts with these certificates and
    `client_certificates` asks for one of the client's. `extra` are further lines of its configuration.
    """

    folder: Path
    passwords: dict[str, str] = field(default_factory=dict)
    acl: str | None = None
    tls: Certificates | None = None
    client_certificates: bool = False
    extra: str = ""
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "mosquitto.conf").write_text("\n".join(self._settings()) + "\n")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it listens."""
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        assert program, "these tests need mosquitto (apt install mosquitto)"
        with (self.folder / "mosquitto.log").open("ab") as log:
            command = [program, "-c", str(self.folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(self._listens, f"mosquitto to start: {self.log()}")

    def stop(self) -> None:
        """End it; frozen or already ended does not matter."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """End it and start it anew on its port, with nothing retained."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it hang: its connections stand, but nothing is read or answered."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Return what it has told so far."""
        return (self.folder / "mosquitto.log").read_text()

    def _listens(self) -> bool:
        assert self._process
        assert self._process.poll() is None, f"mosquitto has ended: {self.log()}"
        with socket.socket() as client:
            return client.connect_ex((HOST, self.port)) == 0

    def _settings(self) -> list[str]:
        lines = [f"user {getpass.getuser()}", "persistence false", f"listener {self.port} {HOST}"]
        lines.append(f"allow_anonymous {'false' if self.passwords else 'true'}")
        if self.passwords:
            lines.append(f"password_file {self._write_passwords()}")
        if self.acl is not None:
            (self.folder / "acl").write_text(self.acl)
            lines.append(f"acl_file {self.folder / 'acl'}")
        if self.tls is not None:
            lines += [f"cafile {self.tls.ca}", f"certfile {self.tls.server_cert}", f"keyfile {self.tls.server_key}"]
            lines.append(f"require_certificate {str(self.client_certificates).lower()}")
        return [*lines, self.extra]

    def _write_passwords(self) -> Path:
        file = self.folder / "passwords"
        file.touch()
        for user, password in self.passwords.items():
            subprocess.run(["mosquitto_passwd", "-b", str(file), user, password], check=True, capture_output=True)
        return file


@dataclass(frozen=True)
class Heard:
    """A message as a subscriber got it, `at` in monotonic seconds; MQTT 5 says after how many seconds it `expires`."""

    topic: str
    payload: bytes
    retain: bool
    at: float = 0.0
    expires: int | None = None


class Subscriber:
    """A client that subscribes to everything below `topic` and keeps what it hears, in order."""

    def __init__(self, port: int, topic: str = "#", protocol: str = "3.1.1") -> None:
        version = MQTTProtocolVersion.MQTTv5 if protocol == "5" else MQTTProtocolVersion.MQTTv311
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=version)
        self._client.on_connect = lambda *_: self._client.subscribe(topic, 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._ready = threading.Event()
        self._port = port
        self.heard: list[Heard] = []

    def __enter__(self) -> Self:
        self._client.connect(HOST, self._port)
        self._client.loop_start()
        assert self._ready.wait(PATIENCE_SECONDS), "the subscriber was not accepted"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def payloads(self, topic: str) -> list[bytes]:
        """Return what was heard on one topic, in order."""
        return [message.payload for message in self.heard if message.topic == topic]

    def live(self, topic: str) -> list[bytes]:
        """Return what was heard on one topic as it was published, not from what the broker had kept."""
        return [message.payload for message in self.heard if message.topic == topic and not message.retain]

    def publish(self, topic: str, payload: str | bytes = b"", *, retain: bool = False) -> None:
        """Publish a message, acknowledged by the broker when this returns."""
        self._client.publish(topic, payload, 1, retain).wait_for_publish(PATIENCE_SECONDS)

    def wait_for(self, topic: str, payload: bytes) -> Heard:
        """Return the first such message, once it is there."""
        eventually(lambda: payload in self.payloads(topic), f"{payload[:40]!r} on {topic}")
        return next(message for message in self.heard if (message.topic, message.payload) == (topic, payload))

    def _on_message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        expires = getattr(message.properties, "MessageExpiryInterval", None)
        self.heard.append(Heard(message.topic, bytes(message.payload), message.retain, time.monotonic(), expires))
