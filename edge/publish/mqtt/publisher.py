"""The publisher: one connection to a broker that comes and goes, in bounded memory and without stale readings.

paho queues QoS 0 payloads without bound while a broker is slow or half-open (paho.mqtt.python issue 483), and so do the
buffers of both kernels, megabytes of them. So little is handed over at a time, and the newest message of every topic
waits here: one message of QoS 1, which the broker acknowledges, or one batch of QoS 0, one message a topic. MQTT
acknowledges no QoS 0, but a broker answers in order: behind each batch goes an UNSUBSCRIBE from what was never
subscribed to, and its answer tells that the broker has read the batch.
"""

import logging
import math
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, Protocol

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import MqttSection
from edge.publish.mqtt.client import BoundedClient
from edge.publish.mqtt.connection import Losses, Versions, check_host, refusal, tls_context, why_unreachable
from edge.records import Message
from edge.topics import Topics

logger = logging.getLogger(__name__)

_MAX_BYTES = 1_000_000  # mosquitto 2.1 disconnects whoever sends a packet above 2 MB
_MAX_HEARD_BYTES = 65536  # what a broker may send us; with MQTT 5 it is told
_MOST_HELD_BYTES = 2 * _MAX_HEARD_BYTES  # of a longer one: with the longest topic too its payload is above the limit
_MOST_EVENTS = 100
_SEND_BUFFER_BYTES = 65536  # the kernel's default grows to megabytes: many stale pictures on a slow link
_STALL_SECONDS = 2.0  # a broker that takes longer to answer leaves a gap, and what waited is old
_FIRST_WAIT_SECONDS = 1
_COLD_WAIT_SECONDS = 29  # with the jitter 30, for a broker that has never been there
_WARM_WAIT_SECONDS = 2  # with the jitter 3, for one that has
_JITTER_SECONDS = 1.0  # so that many cameras don't come back in step
_ANSWER_SECONDS = 3.0  # for a broker that may not speak MQTT 5: some wait for more in place of an answer
_STOP_SECONDS = 2.0  # for the farewell, and again for the network thread's end


class Gap(Protocol):
    """Whoever is told that subscribers may have missed readings."""

    def __call__(self, *, connection_is_new: bool) -> None: ...


def _ignore(topic: str, payload: bytes) -> None:
    pass


def _no_matter(*, connection_is_new: bool) -> None:
    pass


class Publisher:
    """Keeps a connection to the broker and sends the newest message of every topic, never blocking its caller.

    The broker learns `online` on the status topic with every connection, and `offline` at a clean stop or, from the
    will, after any other end. The last message of every retained topic is kept and sent again with every connection,
    since brokers lose retained data.

    `filters` are subscribed to with every connection. `on_message(topic, payload)` gets what arrives, unless it was
    retained: a command that the broker keeps would be obeyed again and again. `on_gap()` says that subscribers may have
    missed readings: after a connection, and after a stall, when QoS 0 messages older than `stale_seconds` are dropped.
    Both are called in the network thread and must not wait.

    Raises:
        ConfigError: the host name, a file of `mqtt.tls` or the password file can't be used.
    """

    def __init__(
        self,
        section: MqttSection,
        topics: Topics,
        client_id: str,
        *,
        filters: Collection[str] = (),
        on_message: Callable[[str, bytes], None] = _ignore,
        on_gap: Gap = _no_matter,
        stale_seconds: float = 1.0,
    ) -> None:
        self._section = section
        self._client_id = client_id
        self._filters = tuple(filters)
        self._heard = on_message
        self._on_gap = on_gap
        self._stale_seconds = stale_seconds
        self._status_topic = topics.named("status")
        self._never_subscribed = f"{topics.root}/-"
        self._stopping = threading.Event()
        # Known to the network thread only.
        self._refusal: ReasonCode | None = None
        self._losses = Losses()
        self._versions = Versions(section.protocol)
        self._ignored: set[str] = set()
        # The condition guards what follows. _waiting holds one message a topic at most, with the time that it came;
        # _in_flight is what paho has, from before it is handed over until the broker has it. paho must not be called
        # while the condition is held: its thread calls back with its own locks held.
        self._changed = threading.Condition()
        self._connected = False
        self._problem: str | None = f"not connected to {self._where} yet"
        self._retained = {self._status_topic: self._status("online")}
        self._waiting: dict[str, tuple[Message, float]] = {}
        self._in_flight: list[Message] = []
        self._in_flight_since = 0.0
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
        """How many messages the broker has."""
        return self._published

    def start(self) -> None:
        """Begin to connect, for ever and in the background; the broker need not be there yet."""
        if self._section.tls is not None and self._section.tls.insecure:
            logger.warning("mqtt.tls.insecure: the broker's certificate is not checked; anyone can pose as the broker")
        self._client.reconnect_delay_set(_FIRST_WAIT_SECONDS, _COLD_WAIT_SECONDS)
        # what was sent to us while we were away is out of date: no session is kept
        section = self._section
        self._speak()
        self._client.connect_async(  # what only MQTT 5 has is left out with another version
            section.host, section.port, section.keepalive, clean_start=True, properties=_on_connecting()
        )
        self._client.loop_start()

    def publish(self, message: Message, *, keep: bool = True) -> None:
        """Send a message as soon as the broker takes it, unless a newer one of its topic comes first.

        Events (QoS 1, not retained) do not replace each other; a hundred of them may wait.

        Returns at once. Without a connection an unretained message is dropped, and of each retained topic the newest
        message kept; not so with `keep` false, for what is sent anew after every gap. A payload over 1 MB is dropped.
        """
        with self._changed:
            if len(message.payload) > _MAX_BYTES:
                self._drop_too_large(message)
                return
            if message.retain and keep:
                self._retained[message.topic] = message
            else:
                self._retained.pop(message.topic, None)  # which would be sent after this one
                if not self._connected:
                    self._drops += not message.retain
                    return
            key = message.topic
            if message.qos and not message.retain:  # an event: the next one does not make up for it
                self._events += 1
                key = f"{key}#{self._events}"  # no topic has a # in it
                self._drop_oldest_event()
            self._drops += key in self._waiting
            self._waiting[key] = message, time.monotonic()
        self._send_next()

    def resend(self) -> None:
        """Send the last message of every retained topic again, for whoever has just begun to listen."""
        with self._changed:
            if self._connected:
                self._wait_with_retained()
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
            self._client.break_off()  # the will says `offline`
        # loop_stop waits for whatever paho is about, such as looking up a name, without a limit; its thread is a daemon
        ending = threading.Thread(target=self._client.loop_stop, name="mqtt-stop", daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS)
        self._connected = False
        self._problem = "stopped"

    @property
    def _where(self) -> str:
        return f"{self._section.host}:{self._section.port}"

    def _status(self, status: str) -> Message:
        return Message(topic=self._status_topic, payload=status.encode(), qos=1, retain=True)

    def _make_client(self) -> BoundedClient:
        section = self._section
        client = BoundedClient(self._client_id, _MOST_HELD_BYTES)
        check_host(section.host)
        if section.username is not None:
            client.username_pw_set(section.username, section.read_password())
        if section.tls is not None:
            client.tls_set_context(tls_context(section.tls))
        will = self._status("offline")
        client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_socket_open = _bound_send_buffer
        client.on_socket_close = self._on_socket_close
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_unsubscribe = self._on_unsubscribe
        return client

    # --- sending ------------------------------------------------------------------------------------------------------

    def _nothing_to_send(self) -> bool:
        return not self._connected or (not self._in_flight and not self._waiting)

    def _wait_with_retained(self) -> None:
        """Let every retained message wait, in order, and behind them what waits already."""
        now = time.monotonic()
        self._waiting = {topic: (message, now) for topic, message in self._retained.items()} | self._waiting

    def _send_next(self) -> None:
        """Hand to paho what is next, unless it has something."""
        with self._changed:
            if not self._connected or self._in_flight or not self._waiting:
                return
            keys = [key for key, (message, _) in self._waiting.items() if message.qos][:1] or list(self._waiting)
            batch = self._in_flight = [self._waiting.pop(key)[0] for key in keys]
            self._in_flight_since = time.monotonic()
        for message in batch:
            self._client.publish(
                message.topic, message.payload, message.qos, message.retain, self._on_publishing(message)
            )
        if not batch[0].qos:
            self._client.unsubscribe(self._never_subscribed)

    def _on_publishing(self, message: Message) -> Properties | None:
        """Return what only MQTT 5 can say of a message: how long it is worth anything."""
        if message.expires_seconds is None or self._client.protocol != MQTTProtocolVersion.MQTTv5:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = message.expires_seconds
        return properties

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        # QoS 0 is only written by now: its confirmation is yet to come
        batch = self._confirm(qos=1, refused=reason.is_failure)
        if batch and reason.is_failure and self._problem is None:
            self._tell(f"the broker refuses {batch[0].topic}: {reason.getName()}; let this client write there")

    def _on_unsubscribe(
        self, client: Client, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        self._confirm(qos=0, refused=False)

    def _confirm(self, *, qos: int, refused: bool) -> list[Message]:
        """Count what is in flight with that QoS as received, or as refused, and go on; return what it was."""
        with self._changed:
            if not self._in_flight or self._in_flight[0].qos != qos:
                return []  # of something else, or of a batch that was given up
            batch, self._in_flight = self._in_flight, []
            self._published += 0 if refused else len(batch)
            self._drops += len(batch) if refused else 0
            for message in batch:
                if not message.payload and self._retained.get(message.topic) == message:
                    del self._retained[message.topic]  # an empty one takes a retained one back: done, once confirmed
            now = time.monotonic()
            stalled = now - self._in_flight_since > _STALL_SECONDS
            if stalled:
                self._drop_stale(now)
            self._changed.notify_all()
        if stalled:
            self._on_gap(connection_is_new=False)
        self._send_next()
        return batch

    def _drop_stale(self, now: float) -> None:
        stale = [
            key
            for key, (message, since) in self._waiting.items()
            if not message.qos and now - since > self._stale_seconds
        ]
        for key in stale:
            del self._waiting[key]
        self._drops += len(stale)

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

    # --- connecting ---------------------------------------------------------------------------------------------------

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refusal = reason
            return
        self._versions.accepted()
        client.reconnect_delay_set(_FIRST_WAIT_SECONDS, _WARM_WAIT_SECONDS)
        self._losses.connected(time.monotonic())
        if self._filters:
            # QoS 0: of QoS 1 mosquitto counts what is too large for us as on its way for ever, and then sends no more
            client.subscribe([(each, 0) for each in self._filters])
        with self._changed:
            lost = [message for message, _ in self._waiting.values()]
            # An unacknowledged QoS 1 message stays in flight: paho sends it again by itself, after this call.
            if self._in_flight and not self._in_flight[0].qos:
                lost += self._in_flight
                self._in_flight = []
            self._in_flight_since = time.monotonic()
            self._drops += sum(not message.retain for message in lost)
            self._waiting = {}
            self._wait_with_retained()
            self._connected = True
            self._problem = None
        version = "5" if self._client.protocol == MQTTProtocolVersion.MQTTv5 else "3.1.1"
        logger.info("connected to the broker %s as %s, MQTT %s", self._where, self._client_id, version)
        self._on_gap(connection_is_new=True)
        self._send_next()

    def _on_connect_fail(self, client: Client, userdata: Any) -> None:
        self._versions.begin_anew()
        self._speak()
        # paho calls this inside its `except OSError` and passes no reason
        self._fail(f"{self._where} can't be reached: {why_unreachable(sys.exception())}")

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        with self._changed:
            accepted, self._connected = self._connected, False
            self._changed.notify_all()
        if self._stopping.is_set():
            logger.info("left the broker %s", self._where)
            return
        refused, self._refusal = self._refusal, None
        if not accepted:
            at_once = self._versions.refused(refused)
            self._speak(at_once=at_once)
            if at_once:
                return
        self._fail(self._describe_loss(accepted, reason, refused))

    def _speak(self, *, at_once: bool = False) -> None:
        patience = _ANSWER_SECONDS if self._versions.tried_out else math.inf
        self._client.speak(self._versions.current, at_once=at_once, patience_seconds=patience)

    def _describe_loss(self, accepted: bool, reason: ReasonCode, refused: ReasonCode | None) -> str:
        if refused is not None:
            return f"{self._where} refuses the connection: {refusal(refused)}"
        words = self._losses.describe(reason, time.monotonic())
        if accepted:
            return f"the connection to {self._where} was lost: {words}"
        wanted = "a certificate (mqtt.tls.cert)" if self._section.tls else "TLS (mqtt.tls)"
        return f"{self._where} does not accept the connection: {words}; does it want {wanted}?"

    def _on_socket_close(self, client: Client, userdata: Any, sock: Any) -> None:
        """Let what the kernel has not sent by now never be sent: by the time that it arrived it would be out of date.

        At an orderly end it goes out: the last of it is the farewell.
        """
        if not self._stopping.is_set():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    # --- hearing ------------------------------------------------------------------------------------------------------

    def _on_subscribe(
        self, client: Client, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        refused = [each for each, reason in zip(self._filters, reasons, strict=False) if reason.is_failure]
        if refused:
            self._tell(f"the broker lets this client not listen to {', '.join(refused)}; commands are not heard")

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        if len(message.payload) > _MAX_HEARD_BYTES:
            topic = ascii(message.topic[:200])
            logger.warning("%s: a message of more than %d bytes is not taken", topic, _MAX_HEARD_BYTES)
        elif not message.retain:
            try:
                self._heard(message.topic, bytes(message.payload))
            except Exception:  # the connection goes on
                logger.exception("%s: a message was not understood", ascii(message.topic[:200]))
        elif message.topic not in self._ignored:
            self._ignored = {*list(self._ignored)[-_MOST_EVENTS:], message.topic}
            logger.warning(
                "%s: a retained message is ignored; clear it with an empty retained one", ascii(message.topic[:200])
            )

    def _fail(self, problem: str) -> None:
        self._tell(problem)
        self._stopping.wait(random.uniform(0, _JITTER_SECONDS))  # noqa: S311 - no secret

    def _tell(self, problem: str) -> None:
        """Keep the problem; log it when it is another one than before."""
        before, self._problem = self._problem, problem
        if problem != before:
            logger.warning("%s", problem)


def _on_connecting() -> Properties:
    """Return what MQTT 5 lets us ask of the broker: to keep from us what no command is as large as."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = _MAX_HEARD_BYTES
    return properties


def _bound_send_buffer(client: Client, userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
