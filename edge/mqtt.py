"""The publisher: one connection to a broker that comes and goes, in bounded memory.

paho queues QoS 0 payloads without bound while a broker is slow or half-open (paho.mqtt.python issue 483), so it is
handed one message at a time; the newest message of every topic waits here.
"""

import contextlib
import hashlib
import logging
import random
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import MqttSection, TlsSection
from edge.errors import ConfigError
from edge.records import Message
from edge.topics import Topics

logger = logging.getLogger(__name__)

_MAX_BYTES = 1_000_000  # mosquitto 2.1 disconnects whoever sends a packet above 2 MB
_MOST_EVENTS = 100
_SEND_BUFFER_BYTES = 65536  # the kernel's default grows to megabytes: many stale pictures on a slow link
_FIRST_WAIT_SECONDS = 1
_COLD_WAIT_SECONDS = 29  # with the jitter 30, for a broker that has never been there
_WARM_WAIT_SECONDS = 2  # with the jitter 3, for one that has
_JITTER_SECONDS = 1.0  # so that many cameras don't come back in step
_STOP_SECONDS = 2.0  # for the farewell, and again for the network thread's end

_REFUSALS = {
    "Bad user name or password": "bad user name or password; check mqtt.username and mqtt.password",
    "Not authorized": "bad user name or password, or a client that is not allowed; check mqtt.username, mqtt.password "
    "and the broker's access list",
    "Client identifier not valid": "the client id is not accepted; check mqtt.client_id",
    "Unsupported protocol version": "the broker does not speak this version; change mqtt.protocol",
}
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
    the machine is hashed, as machine-id(5) asks for; a machine without one is known by its host name.
    """
    if section.client_id is not None:
        return section.client_id
    file = Path("/etc/machine-id")
    machine = (file.read_text(encoding="ascii").strip() if file.is_file() else "") or socket.gethostname()
    digest = hashlib.sha256(f"{machine} {topics.root}".encode()).hexdigest()
    return f"edge-depth-{topics.id}-{digest[:8]}"


class Publisher:
    """Keeps a connection to the broker and sends the newest message of every topic, never blocking its caller.

    The broker learns `online` on the status topic with every connection, and `offline` at a clean stop or, from the
    will, after any other end. The last message of every retained topic is kept and sent again with every connection,
    since brokers lose retained data.

    Raises:
        ConfigError: the host name, a file of `mqtt.tls` or the password file can't be used.
    """

    def __init__(self, section: MqttSection, topics: Topics, client_id: str) -> None:
        self._section = section
        self._client_id = client_id
        self._status_topic = topics.named("status")
        self._stopping = threading.Event()
        self._refusal: str | None = None  # known to the network thread only
        # The condition guards what follows. _waiting holds one message a topic at most; _in_flight is the one that paho
        # has, from before it is handed over until it is written (QoS 0) or acknowledged (QoS 1). paho must not be
        # called while the condition is held: its thread calls back with its own locks held.
        self._changed = threading.Condition()
        self._connected = False
        self._problem: str | None = f"not connected to {self._where} yet"
        self._retained = {self._status_topic: self._status("online")}
        self._waiting: dict[str, Message] = {}
        self._in_flight: Message | None = None
        self._too_large: set[str] = set()
        self._events = 0
        self._drops = 0
        self._published = 0
        self._client = self._make_client()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection and it stands."""
        return self._connected

    @property
    def problem(self) -> str | None:
        """Why there is no connection, or what the broker refuses to take, in words; null while all is well."""
        return self._problem

    @property
    def drops(self) -> int:
        """How many messages were never sent: replaced by newer ones, lost with a connection, refused or too large."""
        return self._drops

    @property
    def published(self) -> int:
        """How many messages were sent; those of QoS 1 are acknowledged."""
        return self._published

    def start(self) -> None:
        """Begin to connect, for ever and in the background; the broker need not be there yet."""
        if self._section.tls is not None and self._section.tls.insecure:
            logger.warning("mqtt.tls.insecure: the broker's certificate is not checked; anyone can pose as the broker")
        self._client.reconnect_delay_set(_FIRST_WAIT_SECONDS, _COLD_WAIT_SECONDS)
        self._client.connect_async(self._section.host, self._section.port, self._section.keepalive)
        self._client.loop_start()

    def publish(self, message: Message) -> None:
        """Send a message as soon as the broker takes it, unless a newer one of its topic comes first.

        Events (QoS 1, not retained) do not replace each other; a hundred of them may wait.

        Returns at once. Without a connection an unretained message is dropped, and of each retained topic the newest
        message kept. A payload over 1 MB is dropped.
        """
        with self._changed:
            if len(message.payload) > _MAX_BYTES:
                self._drop_too_large(message)
                return
            if message.retain:
                self._retained[message.topic] = message
            elif not self._connected:
                self._drops += 1
                return
            key = message.topic
            if message.qos and not message.retain:  # an event: the next one does not make up for it
                self._events += 1
                key = f"{key}#{self._events}"  # no topic has a # in it
                self._drop_oldest_event()
            self._drops += key in self._waiting
            self._waiting[key] = message
        self._send_next()

    def stop(self) -> None:
        """Send what waits and `offline`, and leave the broker; a broker that does not answer is left after 2 s."""
        self._stopping.set()
        self.publish(self._status("offline"))
        with self._changed:
            told = self._changed.wait_for(self._nothing_to_send, _STOP_SECONDS)
        if told:
            self._client.disconnect()
        else:
            self._break_off()
        # loop_stop waits for whatever paho is about, such as looking up a name, without a limit; its thread is a daemon
        ending = threading.Thread(target=self._client.loop_stop, name="mqtt-stop", daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS)
        self._connected = False
        self._problem = "stopped"

    def _break_off(self) -> None:
        """End the connection without the DISCONNECT that would revoke the will: the will says `offline`."""
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):  # the broker may have ended it in between
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # SSLSocket's own would pull TLS from under paho

    @property
    def _where(self) -> str:
        return f"{self._section.host}:{self._section.port}"

    def _status(self, status: str) -> Message:
        return Message(topic=self._status_topic, payload=status.encode(), qos=1, retain=True)

    def _make_client(self) -> Client:
        section = self._section
        protocol = MQTTProtocolVersion.MQTTv5 if section.protocol == "5" else MQTTProtocolVersion.MQTTv311
        client = Client(CallbackAPIVersion.VERSION2, client_id=self._client_id, protocol=protocol)
        _check_host(section.host)
        if section.username is not None:
            client.username_pw_set(section.username, section.read_password())
        if section.tls is not None:
            client.tls_set_context(_tls_context(section.tls))
        will = self._status("offline")
        client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_socket_open = _bound_send_buffer
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    def _nothing_to_send(self) -> bool:
        return not self._connected or (self._in_flight is None and not self._waiting)

    def _send_next(self) -> None:
        """Hand the message that has waited longest to paho, unless it has one."""
        with self._changed:
            if not self._connected or self._in_flight is not None or not self._waiting:
                return
            message = self._in_flight = self._waiting.pop(next(iter(self._waiting)))
        self._client.publish(message.topic, message.payload, message.qos, message.retain)

    def _drop_oldest_event(self) -> None:
        waiting = [key for key in self._waiting if "#" in key]
        if len(waiting) >= _MOST_EVENTS:
            del self._waiting[waiting[0]]
            self._drops += 1

    def _drop_too_large(self, message: Message) -> None:
        self._drops += 1
        if message.topic not in self._too_large:
            self._too_large.add(message.topic)
            size = len(message.payload)
            logger.warning("%s: %d bytes are not sent; a payload has %d at most", message.topic, size, _MAX_BYTES)

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            words = _REFUSALS.get(reason.getName(), reason.getName())
            self._refusal = f"{self._where} refuses the connection: {words}"
            return
        client.reconnect_delay_set(_FIRST_WAIT_SECONDS, _WARM_WAIT_SECONDS)
        with self._changed:
            lost = list(self._waiting.values())
            # An unacknowledged QoS 1 message stays in flight: paho sends it again by itself, after this call.
            if self._in_flight is not None and self._in_flight.qos == 0:
                lost.append(self._in_flight)
                self._in_flight = None
            self._drops += sum(not message.retain for message in lost)
            self._waiting = dict(self._retained)
            self._connected = True
            self._problem = None
        logger.info("connected to the broker %s as %s", self._where, self._client_id)
        self._send_next()

    def _on_connect_fail(self, client: Client, userdata: Any) -> None:
        # paho calls this inside its `except OSError` and passes no reason
        self._fail(f"{self._where} can't be reached: {_why_unreachable(sys.exception())}")

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        with self._changed:
            accepted, self._connected = self._connected, False
            self._changed.notify_all()
        if self._stopping.is_set():
            logger.info("left the broker %s", self._where)
            return
        self._fail(self._refusal or self._describe_loss(accepted, reason.getName()))
        self._refusal = None

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        with self._changed:
            message, self._in_flight = self._in_flight, None
            self._published += not reason.is_failure
            self._drops += reason.is_failure
            if message is not None and not message.payload and self._retained.get(message.topic) == message:
                del self._retained[message.topic]  # an empty one takes a retained one back: done, once acknowledged
            self._changed.notify_all()
        if reason.is_failure and message is not None and self._problem is None:
            self._tell(f"the broker refuses {message.topic}: {reason.getName()}; let this client write there")
        self._send_next()

    def _describe_loss(self, accepted: bool, reason: str) -> str:
        words = _LOSSES.get(reason, reason)
        if accepted:
            return f"the connection to {self._where} was lost: {words}"
        wanted = "a certificate (mqtt.tls.cert)" if self._section.tls else "TLS (mqtt.tls)"
        return f"{self._where} does not accept the connection: {words}; does it want {wanted}?"

    def _fail(self, problem: str) -> None:
        self._tell(problem)
        self._stopping.wait(random.uniform(0, _JITTER_SECONDS))  # noqa: S311 - no secret

    def _tell(self, problem: str) -> None:
        """Keep the problem; log it when it is another one than before."""
        before, self._problem = self._problem, problem
        if problem != before:
            logger.warning("%s", problem)


def _bound_send_buffer(client: Client, userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)


def _check_host(host: str) -> None:
    """Refuse a name that can't be looked up at all: the error would end paho's thread without a word."""
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ConfigError(f"mqtt.host: must be a host name or an address, not {host!r}") from error


def _tls_context(tls: TlsSection) -> ssl.SSLContext:
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


def _why_unreachable(error: BaseException | None) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted ({error.verify_message}); check mqtt.tls.ca and mqtt.host"
        case ssl.SSLError() | ConnectionResetError():  # a reset this early comes from within the TLS handshake
            return f"TLS fails ({error.strerror}); check that mqtt.port is the broker's TLS port"
        case socket.gaierror():
            return "the name is not known; check mqtt.host and the network"
        case ConnectionRefusedError():
            return "nothing listens there; check that the broker runs, and mqtt.port"
        case TimeoutError():
            return "no answer; check mqtt.host, mqtt.port and the network"
        case _:
            return str(error)
