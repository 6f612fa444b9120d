"""A client beside the daemon's."""

from collections.abc import Collection

from edge.config import MqttSection
from edge.publish.mqtt.connection import client_id_for
from edge.publish.mqtt.publisher import Publisher
from edge.records import Message
from edge.topics import Topics


class Visitor(Publisher):
    """Comes with the daemon's login and leaves its status topic alone: that says whether the daemon is there.

    `purpose` is added to the client id; it names the topic on which nothing is left.

    Raises:
        ConfigError: as Publisher.
    """

    def __init__(self, section: MqttSection, topics: Topics, purpose: str, filters: Collection[str] = ()) -> None:
        self._own_topic = f"{topics.root}/{purpose}"
        super().__init__(section, topics, f"{client_id_for(section, topics)}-{purpose}", filters=filters)

    def _status(self, status: str) -> Message:
        return Message(topic=self._own_topic, payload=b"", qos=1, retain=True)
