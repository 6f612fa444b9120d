"""The connection to the broker: what is published, what is heard, and why there is none, in words."""

from edge.publish.mqtt.connection import client_id_for
from edge.publish.mqtt.publisher import Publisher
from edge.publish.mqtt.visitor import Visitor

__all__ = ["Publisher", "Visitor", "client_id_for"]
