"""What a connection to a broker is made of, and the words for what becomes of it."""

import hashlib
import socket
import ssl
from pathlib import Path

from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import MqttSection, TlsSection
from edge.errors import ConfigError
from edge.topics import Topics

_MACHINE_FILES = (Path("/etc/machine-id"), Path("/sys/firmware/devicetree/base/serial-number"))
_BRIEF_SECONDS = 10.0

_REFUSALS = {
    "Bad user name or password": "bad user name or password; check mqtt.username and mqtt.password",
    "Not authorized": "bad user name or password, or a client that is not allowed; check mqtt.username, mqtt.password "
    "and the broker's access list",
    "Client identifier not valid": "the client id is not accepted; check mqtt.client_id",
    "Unsupported protocol version": "the broker does not speak this version; change mqtt.protocol",
}
# Refusals that have nothing to do with the version of MQTT.
_WITH_ANY_VERSION = {
    *("Bad user name or password", "Not authorized", "Client identifier not valid", "Server unavailable"),
    *("Server busy", "Banned", "Quota exceeded", "Use another server", "Server moved", "Connection rate exceeded"),
}
_TWO = "is there another client with this id? Give each daemon its own id and mqtt.client_id"
_LOSSES = {
    "Keep alive timeout": "the broker stopped answering",
    "Session taken over": "another client with this id took over; give each daemon its own mqtt.client_id",
    "Unspecified error": "it broke off",
    "Normal disconnection": "the broker closed it",
}


def client_id_for(section: MqttSection, topics: Topics) -> str:
    """Return the configured client id, or one that differs between machines and stays the same on each.

    A broker closes the older of two connections with one id and publishes its will: two daemons with one id would make
    their availability flap, and a new id after a crash would let the will of the old connection come last. The id of
    the machine is hashed, as machine-id(5) asks for, with the board's number, since cards get copied with their
    machine-id; a machine that has neither is known by its host name.
    """
    if section.client_id is not None:
        return section.client_id
    machine = "".join(map(_text_of, _MACHINE_FILES)) or socket.gethostname()
    digest = hashlib.sha256(f"{machine} {topics.root}".encode()).hexdigest()
    return f"edge-depth-{topics.id}-{digest[:8]}"


def _text_of(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip("\0\n ") if path.is_file() else ""


def refusal(reason: ReasonCode) -> str:
    """Return why the broker does not accept the connection, in words."""
    return _REFUSALS.get(reason.getName(), reason.getName())


class Versions:
    """Which version of MQTT is spoken: MQTT 5 first, where a broker does not take it 3.1.1, and then what was accepted.

    `configured` is `mqtt.protocol`. A broker that is about to start, or something in front of it, closes connections
    too: each round begins with MQTT 5 anew, until one is accepted.
    """

    def __init__(self, configured: str) -> None:
        self._automatic = self._open = configured == "auto"
        self.first = self.current = (
            MQTTProtocolVersion.MQTTv311 if configured == "3.1.1" else MQTTProtocolVersion.MQTTv5
        )

    @property
    def tried_out(self) -> bool:
        """Whether nobody knows yet that the broker speaks it, and another one may do better."""
        return self._open and self.current == MQTTProtocolVersion.MQTTv5

    def accepted(self) -> None:
        """Note that a broker has accepted the connection: nothing else is tried from now on."""
        self._open, self.first = False, self.current

    def begin_anew(self) -> None:
        """Note that no connection was made at all."""
        self.current = self.first

    def refused(self, reason: ReasonCode | None) -> bool:
        """Note that a connection was not accepted, None: it was closed; return whether another version is worth a try.

        A broker that has accepted one, and refuses it for its version's sake by now, is another one: all is tried anew.
        """
        foreign = reason is not None and reason.getName() not in _WITH_ANY_VERSION
        if self._automatic and foreign and not self._open:
            self._open, self.first = True, MQTTProtocolVersion.MQTTv5
        another = self.tried_out and (foreign or reason is None)
        self.current = MQTTProtocolVersion.MQTTv311 if another else self.first
        return another


class Losses:
    """Words for the loss of a connection; the same brief connection again and again hints at a second client.

    A broker closes the older of two connections with one id. Only MQTT 5 has a word for it, and not every broker says
    it.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._brief = 0

    def connected(self, now: float) -> None:
        """Note that a connection stands `now`, in monotonic seconds."""
        self._since = now

    def describe(self, reason: ReasonCode, now: float) -> str:
        """Return why the connection ended `now`, in words."""
        if self._since is not None:
            self._brief = self._brief + 1 if now - self._since < _BRIEF_SECONDS else 0
            self._since = None
        words = _LOSSES.get(reason.getName(), reason.getName())
        return f"{words} soon after it was made, {self._brief} times in a row; {_TWO}" if self._brief >= 3 else words


def check_host(host: str) -> None:
    """Refuse a name that can't be looked up at all: the error would end paho's thread without a word."""
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ConfigError(f"mqtt.host: must be a host name or an address, not {host!r}") from error


def tls_context(tls: TlsSection) -> ssl.SSLContext:
    """Return the context of a connection that checks the broker, against the system's authorities by default.

    Raises:
        ConfigError: a file is missing, is no PEM file or does not fit the other.
    """
    for key, path in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)):
        _check_readable(f"mqtt.tls.{key}", path)
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except ssl.SSLError as error:
        raise ConfigError(f"mqtt.tls.ca: {tls.ca} holds no certificate in PEM form") from error
    # Python 3.13 sets the flag; certificates made as mosquitto's manual says lack an extension that it asks for
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if tls.cert is not None:
        try:
            context.load_cert_chain(tls.cert, tls.key, password="")  # without one OpenSSL asks on the terminal
        except ssl.SSLError as error:
            raise ConfigError(
                f"mqtt.tls.cert: {tls.cert} can't be used with the key in {tls.key or tls.cert}: both must be PEM "
                f"files that belong together, the key without a passphrase"
            ) from error
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _check_readable(key: str, path: str | None) -> None:
    if path is None:
        return
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{key}: can't read {path}: {error.strerror}") from error


def why_unreachable(error: BaseException | None) -> str:
    """Return why there is no connection at all, in words."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted ({error.verify_message}); check mqtt.tls.ca and mqtt.host"
        case ssl.SSLError() | ConnectionResetError():  # a reset this early comes from within the TLS handshake
            return (
                f"TLS fails ({error.strerror}); check that mqtt.port is the broker's TLS port, usually 8883; where the"
                " broker has no TLS, mqtt.tls must be null"
            )
        case socket.gaierror():
            return "the name is not known; check mqtt.host and the network"
        case ConnectionRefusedError():
            return "nothing listens there; check that the broker runs, and mqtt.port"
        case TimeoutError():
            return "no answer; check mqtt.host, mqtt.port and the network"
        case _:
            return str(error)
