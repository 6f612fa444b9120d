"""What a broker has of this camera: Home Assistant's discovery, and our own retained topics."""

import math
import random
import time
from collections.abc import Callable

from edge.config import Config
from edge.publish import homeassistant
from edge.records import Message
from edge.state.place import ANNOUNCED, Place
from edge.state.stores import AnnouncedStore
from edge.system import machine
from edge.topics import Topics

_JITTER_SECONDS = (1.0, 5.0)  # so that many cameras don't announce themselves at once


class Announcer:
    """Announces the camera, and takes back what an earlier configuration announced, also one of an earlier run.

    `publish` sends a message. What was announced is kept in `place`. `configure` is called in the depth
    thread, `work` in the main thread, `hear` and `soon` in the network thread.
    """

    def __init__(self, config: Config, topics: Topics, place: Place, publish: Callable[..., None]) -> None:
        self._config = config
        self._topics = topics
        self._publish = publish
        self._store = AnnouncedStore(place.file(ANNOUNCED))
        # {topic: components}: what Home Assistant was told (the main thread's), and our own retained topics (the depth
        # thread's); both are replaced, never changed.
        before = self._store.load()
        self._own = {topic: parts for topic, parts in before.items() if topic.startswith(f"{topics.root}/")}
        self._told = {topic: parts for topic, parts in before.items() if topic not in self._own}
        self._wanted = self._discovery()
        self._due = 0.0
        self._reborn = False
        self.filters = () if config.mqtt.discovery == "off" else (f"{config.mqtt.discovery_prefix}/status",)

    def configure(self, config: Config) -> None:
        """Go by a configuration: let the broker forget zones, triggers and options that are no longer there."""
        self._config = config
        wanted = homeassistant.retained_topics(config, self._topics)
        for topic in self._own.keys() - set(wanted):
            self._publish(homeassistant.taken_back(topic))
        self._own = {topic: [] for topic in wanted}
        if (discovery := self._discovery()) != self._wanted:
            self._wanted = discovery
            self._due = min(self._due, time.monotonic())

    def hear(self, topic: str, payload: bytes) -> bool:
        """Return whether a message was for us: Home Assistant's birth, after which it has to be told everything."""
        if topic not in self.filters:
            return False
        if payload == b"online":
            self._reborn = True
            self.soon()
        return True

    def soon(self) -> None:
        """Announce the camera in some seconds."""
        self._due = time.monotonic() + random.uniform(*_JITTER_SECONDS)  # noqa: S311 - no secret

    def work(self, now: float) -> bool:
        """Announce the camera when that is due; return whether all else has to be told anew too.

        To be called again and again while there is a broker: what was announced is kept once it has it.
        """
        if self._due == math.inf:
            self._store.save(self._told | self._own, now)
            return False
        if now < self._due:
            return False
        self._due = math.inf
        found = self._discovery(self._told)
        self._told = homeassistant.announced(found)
        for message in found:
            self._publish(message, keep=not message.payload)  # what is taken back is not found anew after a gap
        reborn, self._reborn = self._reborn, False
        return reborn

    def _discovery(self, before: homeassistant.Announced | None = None) -> list[Message]:
        calibrated, board = self._config.calibration.given, machine.machine_name()
        return homeassistant.discovery(self._config, self._topics, calibrated=calibrated, machine=board, before=before)
