"""The demo's broker, listened to with mosquitto's own client."""

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from edge.config import MqttSection
from edge.errors import EdgeError
from edge.publish.embedded_broker import HOST, EmbeddedBroker
from edge.publish.mqtt import Publisher
from edge.records import Message
from edge.topics import Topics
from tests.broker import eventually

PICTURE = bytes(range(256)) * 240  # 61 440 bytes


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


def test_mosquitto_sub_gets_what_is_retained_and_what_is_live(broker: EmbeddedBroker):
    """A subscriber gets the retained status and, live, a picture of 60 kB byte for byte."""
    made = Publisher(MqttSection(host=HOST, port=broker.port, protocol="3.1.1"), Topics("edge-depth", "demo"), "demo")
    made.start()
    eventually(lambda: made.published == 1, "the birth to be acknowledged")
    command = ["mosquitto_sub", "-h", HOST, "-p", str(broker.port), "-t", "edge-depth/#", "-F", "%t %r %x"]
    with subprocess.Popen([*command, "-C", "2", "-W", "10"], stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout
        assert listener.stdout.readline() == f"edge-depth/demo/status 1 {b'online'.hex()}\n"
        made.publish(Message(topic="edge-depth/demo/heatmap", payload=PICTURE))
        assert listener.stdout.readline() == f"edge-depth/demo/heatmap 0 {PICTURE.hex()}\n"
    made.stop()


def test_it_is_quiet(caplog: pytest.LogCaptureFixture):
    """With the log at info, clients that come and go leave no line of the broker's machinery."""
    caplog.set_level(logging.INFO)
    with EmbeddedBroker() as broker:
        command = ["mosquitto_pub", "-h", HOST, "-p", str(broker.port), "-t", "x", "-m", "y"]
        assert subprocess.run(command, check=False).returncode == 0
    assert [] == [record.getMessage() for record in caplog.records]


def test_a_broker_that_waits_for_more_of_an_mqtt_5_client_is_spoken_to_in_3_1_1(broker: EmbeddedBroker):
    """It takes the properties for something else and never answers: the client does not wait for its keepalive."""
    section = MqttSection(host=HOST, port=broker.port, keepalive=3600)
    made = Publisher(section, Topics("edge-depth", "demo"), "demo")
    made.start()
    eventually(lambda: made.connected, "a connection")
    assert made.problem is None
    made.stop()


def test_it_ends_with_its_clients_connected():
    """Leaving the `with` closes the port and ends the thread, whoever is still connected."""
    with EmbeddedBroker() as broker:
        made = Publisher(
            MqttSection(host=HOST, port=broker.port, protocol="3.1.1"), Topics("edge-depth", "demo"), "demo"
        )
        made.start()
        eventually(lambda: made.connected, "a connection")
    assert "broker" not in [thread.name for thread in threading.enumerate()]
    with socket.socket() as client:
        assert client.connect_ex((HOST, broker.port)) != 0
    made.stop()


def test_without_amqtt_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    """Where the extra is not installed, the error names the command that installs it."""
    monkeypatch.setitem(sys.modules, "amqtt.broker", None)
    with pytest.raises(EdgeError, match=r"pip install 'edge-depth\[demo\]'"), EmbeddedBroker():
        pass
