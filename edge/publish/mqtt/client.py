"""paho's client, bounded in what it reads, and able to speak another version of MQTT with the next connection.

paho has no public way to either: what is overridden here is its own. Tests with brokers hold it.
"""

import contextlib
import logging
import math
import socket
import time

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 65536


class _Skipped(bytes):
    """What was read and let go: it has the length that paho counts, and nothing in it."""

    length: int

    def __len__(self) -> int:
        return self.length


class BoundedClient(Client):
    """Holds the first `most_bytes` of a packet, and reads over the rest of it.

    So nobody who may write to the broker makes it hold much or lose its connection: a message that is longer arrives,
    and is confirmed, with its end missing. A packet that can't be understood ends the connection, which is made anew.
    """

    def __init__(self, client_id: str, most_bytes: int) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, client_id=client_id)
        self._most_bytes = most_bytes
        self._at_once = False
        self._patience_seconds = self._asked_at = math.inf

    def speak(self, version: MQTTProtocolVersion, *, at_once: bool, patience_seconds: float) -> None:
        """Speak this version from the next connection on, and give a broker so long to answer whether it accepts it.

        With `at_once` that connection is made without a wait.
        """
        self._protocol = version
        self._at_once = at_once
        self._patience_seconds = patience_seconds

    def reconnect(self) -> MQTTErrorCode:
        """As paho's."""
        asked = super().reconnect()
        self._asked_at = time.monotonic()
        return asked

    def loop_misc(self) -> MQTTErrorCode:
        """As paho's, and give up a broker that does not answer; called once a second."""
        late = not self.is_connected() and time.monotonic() > self._asked_at + self._patience_seconds
        if late:
            self.break_off()
        return super().loop_misc()

    def break_off(self) -> None:
        """End the connection without the DISCONNECT that would revoke the will."""
        sock = self.socket()
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):  # the broker may have ended it in between
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # SSLSocket's own would pull TLS from under paho

    def _reconnect_wait(self) -> None:
        at_once, self._at_once = self._at_once, False
        if not at_once:
            super()._reconnect_wait()

    def _sock_recv(self, bufsize: int) -> bytes:
        left = self._most_bytes - len(self._in_packet["packet"])
        if left > 0:
            return super()._sock_recv(min(bufsize, left))
        skipped = _Skipped()
        skipped.length = len(super()._sock_recv(min(bufsize, _CHUNK_BYTES)))
        return skipped

    def _packet_read(self) -> MQTTErrorCode:
        try:
            return super()._packet_read()
        except Exception:  # else it would end paho's thread, and the connection for good
            logger.exception("the broker sent what is not understood")
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
