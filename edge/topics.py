"""Every topic name and the rule for ids, once."""

import re
import socket
from dataclasses import dataclass
from typing import Literal

PlainTopic = Literal["status", "info", "health", "state", "nearest", "nearest_m", "heatmap", "snapshot", "event"]

ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def machine_id(instance: str = "") -> str:
    """Return this machine's host name as an id, `edge-depth` where nothing usable is left of it.

    `instance` is added to it: several cameras of one machine differ by it.
    """
    parts = (socket.gethostname().split(".")[0], instance)
    return "-".join(filter(None, map(_usable, parts))) or "edge-depth"


def _usable(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one camera: `<base>/<id>/…`."""

    base: str
    id: str

    @property
    def root(self) -> str:
        """Return what every topic of this camera begins with."""
        return f"{self.base}/{self.id}"

    def named(self, name: PlainTopic) -> str:
        """Return the topic of that name."""
        return f"{self.root}/{name}"

    @property
    def filters(self) -> tuple[str, ...]:
        """Return the topic filters that commands arrive on."""
        return f"{self.root}/+/set", f"{self.root}/trigger/+/+/set", f"{self.root}/request/+"

    def setting(self, option: str) -> str:
        """Return the topic that sets an option, such as `interval` or `trigger/door/near`."""
        return f"{self.root}/{option}/set"

    def setting_state(self, option: str) -> str:
        """Return the topic that says what an option is set to."""
        return f"{self.root}/{option}/state"

    def request(self, command: str) -> str:
        """Return the topic that asks for a command."""
        return f"{self.root}/request/{command}"

    def response(self, command: str) -> str:
        """Return the topic that answers a request."""
        return f"{self.root}/response/{command}"

    @property
    def camera_status(self) -> str:
        """Return the topic of the camera's own state."""
        return f"{self.root}/camera/status"

    def zone_occupancy(self, zone: str) -> str:
        """Return the topic that says whether something stands in `zone`."""
        return f"{self.root}/zone/{zone}/occupancy"

    def zone_state(self, zone: str) -> str:
        """Return the topic with the readings of `zone`."""
        return f"{self.root}/zone/{zone}/state"

    def trigger(self, trigger: str) -> str:
        """Return the topic that says whether `trigger` is on."""
        return f"{self.root}/trigger/{trigger}"
