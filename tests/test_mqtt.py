"""The publisher against a real mosquitto that starts late, restarts, refuses, freezes and vanishes."""

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.config import MqttSection, TlsSection
from edge.errors import ConfigError
from edge.mqtt import Publisher, client_id_for
from edge.records import Message
from edge.topics import Topics
from tests.broker import HOST, Certificates, Mosquitto, Subscriber, eventually, make_certificates

TOPICS = Topics("edge-depth", "hall")
STATUS = "edge-depth/hall/status"
OCCUPANCY = "edge-depth/hall/zone/door/occupancy"
HEATMAP = "edge-depth/hall/heatmap"
PICTURE = bytes(50_000)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def publisher(port: int, client_id: str = "hall", **options: object) -> Iterator[Publisher]:
    made = Publisher(MqttSection(host=HOST, port=port, **options), TOPICS, client_id)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def occupancy(text: bytes) -> Message:
    return Message(topic=OCCUPANCY, payload=text, qos=1, retain=True)


def connected(made: Publisher) -> None:
    eventually(lambda: made.connected, f"a connection; {made.problem}")


def problem_with(made: Publisher, words: str) -> str:
    eventually(lambda: words in (made.problem or ""), f"a problem that says {words!r}, not {made.problem!r}")
    return made.problem or ""


# --- birth, will and farewell -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_connection_is_announced_and_carries_messages(broker: Mosquitto, protocol: str):
    """With either version of MQTT the broker retains `online`, and messages arrive as they were given."""
    with Subscriber(broker.port, protocol=protocol) as subscriber, publisher(broker.port, protocol=protocol) as made:
        connected(made)
        made.publish(Message(topic=HEATMAP, payload=PICTURE))
        subscriber.wait_for(HEATMAP, PICTURE)
        assert made.problem is None
        assert made.drops == 0
        eventually(lambda: made.published == 2, "the birth and the picture to be counted")
        with Subscriber(broker.port) as late:
            assert late.wait_for(STATUS, b"online").retain
            assert late.payloads(HEATMAP) == []


def test_a_clean_stop_says_offline(broker: Mosquitto):
    """After `stop` the broker retains `offline`, what waited was sent first, and paho's thread has ended."""
    with publisher(broker.port, client_id="leaver") as made:
        connected(made)
        made.publish(occupancy(b"ON"))
        assert any("leaver" in thread.name for thread in threading.enumerate())
    assert not any("leaver" in thread.name for thread in threading.enumerate())
    assert not made.connected
    with Subscriber(broker.port) as late:
        late.wait_for(STATUS, b"offline")
        late.wait_for(OCCUPANCY, b"ON")


def test_the_will_speaks_for_a_killed_process(broker: Mosquitto):
    """A daemon killed with SIGKILL is reported `offline` by the broker, retained."""
    script = (
        "import sys, time; from edge.config import MqttSection; from edge.mqtt import Publisher; "
        "from edge.topics import Topics\n"
        "Publisher(MqttSection(host=sys.argv[1], port=int(sys.argv[2])), Topics('edge-depth', 'hall'), 'x').start()\n"
        "time.sleep(60)"
    )
    with Subscriber(broker.port) as subscriber:
        process = subprocess.Popen([sys.executable, "-c", script, HOST, str(broker.port)])
        try:
            subscriber.wait_for(STATUS, b"online")
        finally:
            process.kill()
            process.wait()
        subscriber.wait_for(STATUS, b"offline")
    with Subscriber(broker.port) as late:
        assert late.wait_for(STATUS, b"offline").retain


# --- a broker that comes and goes -------------------------------------------------------------------------------------


def test_the_broker_may_come_later(tmp_path: Path):
    """With nothing there at the start the problem is told in words; the newest retained message is not lost."""
    broker = Mosquitto(tmp_path / "broker")
    with publisher(broker.port) as made:
        made.publish(occupancy(b"ON"))
        made.publish(occupancy(b"OFF"))
        made.publish(Message(topic=HEATMAP, payload=PICTURE))
        assert f"{HOST}:{broker.port}" in problem_with(made, "nothing listens there")
        assert not made.connected
        assert made.drops == 2  # the occupancy that a newer one replaced, and the picture
        with broker:
            connected(made)
            with Subscriber(broker.port) as subscriber:
                subscriber.wait_for(OCCUPANCY, b"OFF")
                assert subscriber.payloads(HEATMAP) == []


def test_a_broker_that_forgot_is_told_again(broker: Mosquitto):
    """A broker that restarts with nothing retained gets the birth and every retained topic anew."""
    with publisher(broker.port) as made:
        made.publish(occupancy(b"ON"))
        connected(made)
        eventually(lambda: made.published == 2, "the first broker to get all")
        broker.restart()
        with Subscriber(broker.port) as subscriber:
            subscriber.wait_for(STATUS, b"online")
            subscriber.wait_for(OCCUPANCY, b"ON")


def test_a_retained_message_that_is_out_of_date_never_comes_last(broker: Mosquitto):
    """What was unacknowledged when the connection broke is not repeated after the newer value."""
    with publisher(broker.port) as made:
        connected(made)
        eventually(lambda: made.published == 1, "the birth to be acknowledged")
        broker.freeze()
        made.publish(occupancy(b"ON"))
        made.publish(occupancy(b"OFF"))
        broker.restart()
        with Subscriber(broker.port) as subscriber:
            subscriber.wait_for(OCCUPANCY, b"OFF")
            made.publish(Message(topic=HEATMAP, payload=b"after all"))
            subscriber.wait_for(HEATMAP, b"after all")
            assert subscriber.payloads(OCCUPANCY)[-1] == b"OFF"


def test_a_half_open_connection_is_noticed():
    """A peer that accepts and then says nothing more is given up after the keepalive."""
    with socket.create_server((HOST, 0)) as server:
        section = MqttSection(host=HOST, port=server.getsockname()[1]).model_copy(update={"keepalive": 1})
        made = Publisher(section, TOPICS, "hall")
        made.start()
        peer, _ = server.accept()
        peer.sendall(b"\x20\x02\x00\x00")  # CONNACK, accepted
        connected(made)
        problem_with(made, "stopped answering")
        assert not made.connected
        made.stop()
        peer.close()


def test_a_problem_is_logged_once(caplog: pytest.LogCaptureFixture):
    """Retries that fail alike are one line in the log."""
    caplog.set_level(logging.INFO, "edge.mqtt")
    with socket.create_server((HOST, 0)) as server, publisher(server.getsockname()[1]) as made:
        for _ in range(3):
            server.accept()[0].close()
        assert "does not accept the connection" in problem_with(made, "TLS")
        lines = [record.getMessage() for record in caplog.records]
        assert [made.problem] == lines


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_refused_connack_is_not_a_connection(tmp_path: Path, protocol: str):
    """With a wrong password the publisher is not connected and says so in words; with the right one it is."""
    with Mosquitto(tmp_path / "broker", passwords={"pi": "right"}) as broker:
        with publisher(broker.port, username="pi", password="wrong", protocol=protocol) as made:
            assert "mqtt.password" in problem_with(made, "bad user name or password")
            assert not made.connected
        with publisher(broker.port, username="pi", password="right", protocol=protocol) as made:
            connected(made)
            assert made.problem is None


def test_an_access_list_that_refuses_is_told_on_mqtt_5(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A message that the broker's access list refuses is dropped, counted and told with its topic."""
    with Mosquitto(tmp_path / "broker", acl=f"topic write {STATUS}\n") as broker:
        with publisher(broker.port, protocol="5") as made:
            connected(made)
            made.publish(occupancy(b"ON"))
            assert "Not authorized" in problem_with(made, OCCUPANCY)
            assert made.connected
            assert made.drops == 1
        assert sum(OCCUPANCY in record.getMessage() for record in caplog.records) == 1


def test_another_client_with_the_id_is_named_on_mqtt_5():
    """Of two daemons with one client id the older learns why it was closed."""
    with socket.create_server((HOST, 0)) as server, publisher(server.getsockname()[1], protocol="5") as made:
        peer, _ = server.accept()
        peer.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK, accepted
        connected(made)
        peer.sendall(b"\xe0\x01\x8e")  # DISCONNECT, session taken over, which mosquitto 2.0.11 does not send
        assert "mqtt.client_id" in problem_with(made, "another client with this id")
        peer.close()


def test_an_unknown_name_is_told():
    """A host name that nobody knows is told as such."""
    made = Publisher(MqttSection(host="broker.invalid"), TOPICS, "hall")
    made.start()
    assert "mqtt.host" in problem_with(made, "name is not known")
    made.stop()


def test_a_name_that_can_not_be_looked_up_is_refused():
    """A host that is no name at all is an error of the configuration, not of a thread."""
    with pytest.raises(ConfigError, match=r"mqtt\.host: .*'broker\.\.lan'"):
        Publisher(MqttSection(host="broker..lan"), TOPICS, "hall")


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_tls_with_the_right_authority(tmp_path: Path, certificates: Certificates):
    """A broker whose certificate the configured authority has signed is connected to."""
    with (
        Mosquitto(tmp_path / "broker", tls=certificates) as broker,
        publisher(broker.port, tls=TlsSection(ca=str(certificates.ca))) as made,
    ):
        connected(made)


def test_tls_with_the_wrong_authority(tmp_path: Path, certificates: Certificates):
    """A broker whose certificate another authority has signed is refused, and the words name the key to look at."""
    other = make_certificates(tmp_path / "other")
    with (
        Mosquitto(tmp_path / "broker", tls=certificates) as broker,
        publisher(broker.port, tls=TlsSection(ca=str(other.ca))) as made,
    ):
        assert "mqtt.tls.ca" in problem_with(made, "certificate is not accepted")
        assert not made.connected


def test_insecure_tls_connects_and_warns(tmp_path: Path, certificates: Certificates, caplog: pytest.LogCaptureFixture):
    """With `insecure` any certificate does, and the log says what that means."""
    with (
        Mosquitto(tmp_path / "broker", tls=certificates) as broker,
        publisher(broker.port, tls=TlsSection(insecure=True)) as made,
    ):
        connected(made)
        assert any("mqtt.tls.insecure" in record.getMessage() for record in caplog.records)


def test_a_client_certificate_opens_a_broker_that_asks_for_one(tmp_path: Path, certificates: Certificates):
    """Without the certificate the connection fails with a hint at the key; with it the connection stands."""
    ca = str(certificates.ca)
    pair = TlsSection(ca=ca, cert=str(certificates.client_cert), key=str(certificates.client_key))
    with Mosquitto(tmp_path / "broker", tls=certificates, client_certificates=True) as broker:
        with publisher(broker.port, tls=TlsSection(ca=ca)) as made:
            problem_with(made, "mqtt.tls.cert")
            assert not made.connected
        with publisher(broker.port, tls=pair) as made:
            connected(made)


def test_a_port_of_the_other_kind_is_told(tmp_path: Path, broker: Mosquitto, certificates: Certificates):
    """TLS towards a plain port, and a plain connection towards a TLS port, hint at the key that is wrong."""
    with publisher(broker.port, tls=TlsSection(ca=str(certificates.ca))) as made:
        assert "mqtt.port" in problem_with(made, "TLS fails")
    with Mosquitto(tmp_path / "encrypted", tls=certificates) as encrypted, publisher(encrypted.port) as made:
        problem_with(made, "does it want TLS (mqtt.tls)?")


@pytest.mark.parametrize("key", ["ca", "cert", "key"])
def test_a_tls_file_that_is_missing_is_named(tmp_path: Path, certificates: Certificates, key: str):
    """A missing file is an error of the configuration that names its key and its path."""
    files = {"ca": str(certificates.ca), "cert": str(certificates.client_cert), "key": str(certificates.client_key)}
    files[key] = str(tmp_path / "nowhere.pem")
    with pytest.raises(ConfigError, match=rf"mqtt\.tls\.{key}: can't read .*nowhere\.pem: No such file"):
        Publisher(MqttSection(tls=TlsSection(**files)), TOPICS, "hall")


def test_a_tls_file_of_another_kind_is_named(tmp_path: Path, certificates: Certificates):
    """A file that is no certificate, and a key that is not the certificate's, are errors that name key and path."""
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"mqtt\.tls\.ca: .*text\.pem"):
        Publisher(MqttSection(tls=TlsSection(ca=str(text))), TOPICS, "hall")
    mixed = TlsSection(cert=str(certificates.client_cert), key=str(certificates.server_key))
    with pytest.raises(ConfigError, match=r"mqtt\.tls\.cert: .*client\.crt .*server\.key"):
        Publisher(MqttSection(tls=mixed), TOPICS, "hall")


# --- bounded ----------------------------------------------------------------------------------------------------------


def test_a_frozen_broker_neither_blocks_nor_fills_memory(broker: Mosquitto):
    """Of 2000 pictures for a broker that hangs at most two are held; the newest arrives when it goes on."""
    with Subscriber(broker.port) as subscriber, publisher(broker.port) as made:
        connected(made)
        eventually(lambda: made.published == 1, "the birth to be acknowledged")
        broker.freeze()
        begun = time.monotonic()
        for number in range(2000):
            made.publish(Message(topic=HEATMAP, payload=PICTURE + str(number).encode()))
        assert time.monotonic() - begun < 10  # 5 ms a call: none waited for the broker
        sent = made.published - 1
        assert 2000 - sent - made.drops <= 2
        assert sent < 200  # what fits into the kernel's buffers, not a backlog
        broker.thaw()
        subscriber.wait_for(HEATMAP, PICTURE + b"1999")


def test_a_frozen_broker_does_not_hold_up_the_stop(broker: Mosquitto):
    """`stop` gives up on a broker that hangs, and leaves the last word to the will."""
    with Subscriber(broker.port) as subscriber:
        with publisher(broker.port) as made:
            connected(made)
            broker.freeze()
            for _ in range(200):
                made.publish(Message(topic=HEATMAP, payload=PICTURE))
            begun = time.monotonic()
        assert time.monotonic() - begun < 10
        assert not made.connected
        broker.thaw()
        subscriber.wait_for(STATUS, b"offline")


def test_a_payload_over_a_megabyte_is_dropped(broker: Mosquitto, caplog: pytest.LogCaptureFixture):
    """A larger payload is counted and warned of once; the connection is not risked."""
    with Subscriber(broker.port) as subscriber, publisher(broker.port) as made:
        connected(made)
        for _ in range(2):
            made.publish(Message(topic=HEATMAP, payload=bytes(1_000_001)))
        made.publish(Message(topic=HEATMAP, payload=bytes(1_000_000)))
        subscriber.wait_for(HEATMAP, bytes(1_000_000))
        assert made.drops == 2
        assert [bytes(1_000_000)] == subscriber.payloads(HEATMAP)
    assert sum("1000001 bytes" in record.getMessage() for record in caplog.records) == 1


# --- the client id ----------------------------------------------------------------------------------------------------


def test_the_client_id_is_stable_and_differs_between_cameras():
    """An id is made from machine and topics, the same each time; a configured one is taken as it is."""
    section = MqttSection()
    assert client_id_for(section, TOPICS) == client_id_for(section, Topics("edge-depth", "hall"))
    assert client_id_for(section, TOPICS).startswith("edge-depth-hall-")
    others = {client_id_for(section, Topics(base, name)) for base in ("edge-depth", "x") for name in ("hall", "door")}
    assert len(others) == 4
    assert client_id_for(MqttSection(client_id="mine"), TOPICS) == "mine"


def test_a_retained_message_that_was_taken_back_is_forgotten(broker: Mosquitto):
    """An empty retained payload is sent once; with the next connection neither it nor what it took back comes again."""
    with publisher(broker.port) as made:
        connected(made)
        with Subscriber(broker.port, OCCUPANCY) as subscriber:
            made.publish(occupancy(b"ON"))
            subscriber.wait_for(OCCUPANCY, b"ON")
            made.publish(occupancy(b""))
            subscriber.wait_for(OCCUPANCY, b"")
        eventually(lambda: made.published == 3, "the birth and both messages to be acknowledged")
        broker.restart()
        with Subscriber(broker.port) as subscriber:
            subscriber.wait_for(STATUS, b"online")
            connected(made)
            made.publish(Message(topic=HEATMAP, payload=PICTURE))
            subscriber.wait_for(HEATMAP, PICTURE)
            assert subscriber.payloads(OCCUPANCY) == []


def test_events_do_not_replace_each_other(broker: Mosquitto):
    """Messages of QoS 1 that are not retained all arrive, in order, however fast they come; a hundred may wait."""
    event = "edge-depth/hall/event"
    with publisher(broker.port) as made, Subscriber(broker.port, event) as subscriber:
        connected(made)
        for number in range(50):
            made.publish(Message(topic=event, payload=b"%d" % number, qos=1))
        subscriber.wait_for(event, b"49")
        assert [b"%d" % number for number in range(50)] == subscriber.payloads(event)
        before = made.drops
        broker.freeze()
        try:
            for number in range(250):
                made.publish(Message(topic=event, payload=b"%d" % number, qos=1))
            assert made.drops - before in (149, 150)  # one is in flight, or waits with the others
        finally:
            broker.thaw()
        subscriber.wait_for(event, b"249")
