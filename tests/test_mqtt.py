"""The publisher against a real mosquitto that starts late, restarts, refuses, freezes and vanishes."""

import contextlib
import logging
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import MqttSection, TlsSection
from edge.errors import ConfigError
from edge.publish.mqtt import Publisher, client_id_for
from edge.publish.mqtt.connection import Versions
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
def publisher(
    port: int, client_id: str = "hall", listening: dict[str, object] | None = None, **options: object
) -> Iterator[Publisher]:
    made = Publisher(MqttSection(host=HOST, port=port, **options), TOPICS, client_id, **(listening or {}))
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


@pytest.mark.parametrize("protocol", ["3.1.1", "5", "auto"])
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
        "import sys, time; from edge.config import MqttSection; from edge.publish.mqtt import Publisher; "
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
        section = MqttSection(host=HOST, port=server.getsockname()[1], protocol="3.1.1").model_copy(
            update={"keepalive": 1}
        )
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
    caplog.set_level(logging.INFO, "edge.publish.mqtt")
    with socket.create_server((HOST, 0)) as server, publisher(server.getsockname()[1]) as made:
        for _ in range(3):
            server.accept()[0].close()
        assert "does not accept the connection" in problem_with(made, "TLS")
        lines = [record.getMessage() for record in caplog.records]
        assert [made.problem] == lines


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["3.1.1", "5", "auto"])
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
        assert "mqtt.port" in problem_with(made, "where the broker has no TLS, mqtt.tls must be null")
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


def heard_after_restart(broker: Mosquitto, made: Publisher) -> list[bytes]:
    """Return what comes on the occupancy's topic when the broker has forgotten all, and up to a later message."""
    broker.restart()
    with Subscriber(broker.port) as subscriber:
        subscriber.wait_for(STATUS, b"online")
        connected(made)
        made.publish(Message(topic=HEATMAP, payload=PICTURE))
        subscriber.wait_for(HEATMAP, PICTURE)
        return subscriber.payloads(OCCUPANCY)


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
        assert heard_after_restart(broker, made) == []


def test_nothing_kept_is_sent_after_what_is_told_anew_with_every_connection(broker: Mosquitto):
    """An entity that is taken back and wanted again before the broker has answered: the old word never comes last."""
    with publisher(broker.port) as made:
        connected(made)
        eventually(lambda: made.published == 1, "the birth to be acknowledged")
        broker.freeze()
        made.publish(Message(topic="edge-depth/hall/info", payload=b"{}", qos=1, retain=True))  # is in flight
        made.publish(occupancy(b""))
        made.publish(occupancy(b"ON"), keep=False)
        assert heard_after_restart(broker, made) == []


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


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_commands_are_heard_and_retained_ones_are_not(
    broker: Mosquitto, protocol: str, caplog: pytest.LogCaptureFixture
):
    """What is published while the daemon listens arrives; what the broker kept is ignored, with a word in the log."""
    heard: list[tuple[str, bytes]] = []
    listening = {"filters": TOPICS.filters, "on_message": lambda topic, payload: heard.append((topic, payload))}
    with Subscriber(broker.port) as sender:
        sender.publish("edge-depth/hall/interval/set", "9", retain=True)
        with publisher(broker.port, listening=listening, protocol=protocol) as made:
            connected(made)
            for topic in ("enabled/set", "trigger/door/near/set", "request/snapshot", "zone/door/set", "state"):
                sender.publish(f"edge-depth/hall/{topic}", topic)
            eventually(lambda: len(heard) == 3, "three commands")
            sender.publish("edge-depth/hall/interval/set", "5")
            eventually(lambda: len(heard) == 4, "the setting that is not retained")
    assert ["enabled/set", "trigger/door/near/set", "request/snapshot", "interval/set"] == [
        topic.removeprefix("edge-depth/hall/") for topic, _ in heard
    ]
    assert b"5" == heard[-1][1]
    assert 1 == sum("retained message is ignored" in record.getMessage() for record in caplog.records)


def test_a_subscription_that_is_refused_is_told(tmp_path: Path):
    """A broker that keeps the list of who may listen says no, and the words name the topics."""

    def answer(server: socket.socket) -> None:
        peer, _ = server.accept()
        peer.recv(1000)
        peer.sendall(b"\x20\x02\x00\x00")  # CONNACK, accepted
        asked = peer.recv(1000)
        while b"hall/+/set" not in asked:
            asked += peer.recv(1000)
        at = asked.index(b"\x82") + 2
        peer.sendall(b"\x90\x05" + asked[at : at + 2] + b"\x80\x80\x80")  # SUBACK: none of the three
        while peer.recv(1000):
            pass

    with socket.create_server((HOST, 0)) as server:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        with publisher(server.getsockname()[1], listening={"filters": TOPICS.filters}, protocol="3.1.1") as made:
            assert "edge-depth/hall/request/+" in problem_with(made, "commands are not heard")


@pytest.mark.parametrize("protocol", ["3.1.1", "auto"])
def test_a_large_message_is_not_taken(broker: Mosquitto, protocol: str, caplog: pytest.LogCaptureFixture):
    """It costs neither the connection nor the next command; MQTT 5 keeps it from us, else the log names it."""
    heard: list[bytes] = []
    listening = {"filters": TOPICS.filters, "on_message": lambda _, payload: heard.append(payload)}
    with Subscriber(broker.port) as sender:
        sender.publish("edge-depth/hall/request/reload", bytes(200_000), retain=True)
        with publisher(broker.port, listening=listening, protocol=protocol) as made:
            connected(made)
            for _ in range(30):  # more than a broker sends before any is confirmed
                sender.publish("edge-depth/hall/request/relearn", bytes(200_000))
            sender.publish("edge-depth/hall/request/relearn", b"small")
            eventually(lambda: heard, "the small one")
        eventually(lambda: b"offline" in sender.live(STATUS), "the farewell")
        assert [b"online", b"offline"] == sender.live(STATUS)
    assert [b"small"] == heard
    told = [record.getMessage() for record in caplog.records if "not taken" in record.getMessage()]
    assert (31 if protocol == "3.1.1" else 0) == len(told)
    assert all("edge-depth/hall/request/re" in line for line in told)


def packet(command: int, body: bytes, length: int | None = None) -> bytes:
    """Return an MQTT packet; with another `length` than the body's only its beginning."""
    left, digits = len(body) if length is None else length, bytearray()
    while True:
        left, digit = divmod(left, 128)
        digits.append(digit | 128 * bool(left))
        if not left:
            return bytes([command]) + bytes(digits) + body


def publication(topic: str) -> bytes:
    return len(topic).to_bytes(2, "big") + topic.encode()


@pytest.mark.parametrize(("protocol", "accepted"), [("3.1.1", b"\0\0"), ("5", b"\0\0\0")])
def test_a_huge_message_takes_no_memory(protocol: str, accepted: bytes):
    """Of 40 MB that a broker sends whatever it was told some hundred kilobytes are held, and what follows is heard."""
    topic, size, heard = "edge-depth/hall/request/relearn", 40 << 20, []
    properties = b"\0" * (protocol == "5")
    listening = {"on_message": lambda *message: heard.append(message)}
    with (
        socket.create_server((HOST, 0)) as server,
        publisher(server.getsockname()[1], listening=listening, protocol=protocol) as made,
    ):
        peer, _ = server.accept()
        peer.sendall(packet(0x20, accepted))
        connected(made)
        tracemalloc.start()
        try:
            head, chunk = publication(topic) + properties, bytes(1 << 16)
            peer.sendall(packet(0x30, head, len(head) + size))
            for _ in range(size // len(chunk)):
                peer.sendall(chunk)
            peer.sendall(packet(0x30, head + b"small"))
            eventually(lambda: heard, "the small one")
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()
        assert [(topic, b"small")] == heard
        peer.close()


def test_what_can_not_be_understood_costs_a_connection_and_no_more(caplog: pytest.LogCaptureFixture):
    """A topic that is no text, from a broker that is not well: the next connection is made."""
    with (
        socket.create_server((HOST, 0)) as server,
        publisher(server.getsockname()[1], protocol="3.1.1") as made,
    ):
        for _ in range(2):
            peer, _ = server.accept()
            peer.sendall(packet(0x20, b"\0\0"))
            connected(made)
            peer.sendall(packet(0x30, b"\0\2\xff\xfe"))
            eventually(lambda: not made.connected, "the end of the connection")
            peer.close()
    assert [UnicodeDecodeError] * 2 == [record.exc_info[0] for record in caplog.records if record.exc_info]


def test_what_fails_of_a_message_leaves_the_connection(broker: Mosquitto, caplog: pytest.LogCaptureFixture):
    """Whoever is told of it may fail; the next message is heard."""
    heard: list[bytes] = []

    def hear(topic: str, payload: bytes) -> None:
        heard.append(payload)
        raise RuntimeError("made up")

    listening = {"filters": TOPICS.filters, "on_message": hear}
    with Subscriber(broker.port) as sender, publisher(broker.port, listening=listening) as made:
        connected(made)
        for payload in (b"1", b"2"):
            sender.publish("edge-depth/hall/request/relearn", payload)
        eventually(lambda: len(heard) == 2, "both")
        assert made.connected
    assert ["made up"] * 2 == [str(record.exc_info[1]) for record in caplog.records if record.exc_info]


# --- the version of MQTT ----------------------------------------------------------------------------------------------


def old_broker(server: socket.socket, answer: bytes, levels: list[int], accepts: int) -> None:
    """Accept connections of MQTT 3.1.1 and end them, so many in all; answer others as a broker that knows no other."""
    for _ in range(accepts):
        peer, _ = server.accept()
        asked = peer.recv(1000)
        levels.append(asked[asked.index(b"MQTT") + 4])
        peer.sendall(packet(0x20, b"\0\0") if levels[-1] == 4 else answer)
        peer.close()


@pytest.mark.parametrize("answer", [b"", packet(0x20, b"\0\1"), packet(0x20, b"\0\x84\0"), b"\x20\x02"])
def test_a_broker_that_does_not_speak_mqtt_5_is_spoken_to_in_3_1_1(answer: bytes, caplog: pytest.LogCaptureFixture):
    """At once and without a word, whatever it answers; it is remembered for the next connection."""
    caplog.set_level(logging.INFO, "edge.publish.mqtt")
    levels: list[int] = []
    with socket.create_server((HOST, 0)) as server, publisher(server.getsockname()[1]) as made:
        old_broker(server, answer, levels, 3)
        eventually(lambda: "lost" in (made.problem or ""), "the loss")
    assert [5, 4, 4] == levels
    assert caplog.records[0].getMessage().endswith("as hall, MQTT 3.1.1")


def test_mqtt_5_is_spoken_where_the_broker_does(broker: Mosquitto, caplog: pytest.LogCaptureFixture):
    """Without a word in the configuration; a broker that is being started does not end that."""
    caplog.set_level(logging.INFO, "edge.publish.mqtt")
    with socket.create_server((HOST, 0)) as server:
        port, levels = server.getsockname()[1], []
        with publisher(port) as made:
            for _ in range(4):
                peer, _ = server.accept()
                asked = peer.recv(1000)
                levels.append(asked[asked.index(b"MQTT") + 4])
                peer.close()
            problem_with(made, "does not accept")
    assert [5, 4, 5, 4] == levels
    with publisher(broker.port) as made:
        connected(made)
    assert any(record.getMessage().endswith("as hall, MQTT 5") for record in caplog.records)


def test_a_refusal_that_is_no_matter_of_versions_is_told_at_once():
    """Another version would be refused likewise; what has worked is kept until a broker refuses its version."""
    refused = ReasonCode(PacketTypes.CONNACK, "Not authorized")
    unknown = ReasonCode(PacketTypes.CONNACK, "Unsupported protocol version")
    versions = Versions("auto")
    assert (False, 5) == (versions.refused(refused), versions.current)
    assert (True, 4) == (versions.refused(unknown), versions.current)
    versions.accepted()
    assert (False, 4) == (versions.refused(None), versions.current)
    assert (False, 5) == (versions.refused(unknown), versions.current)
    for only, level in (("3.1.1", 4), ("5", 5)):
        versions = Versions(only)
        assert [False, False] == [versions.refused(reason) for reason in (unknown, None)]
        assert level == versions.current


# --- nothing out of date ----------------------------------------------------------------------------------------------


def test_a_stalled_broker_gets_what_is_new_and_not_what_waited(broker: Mosquitto):
    """After a stall of some seconds within one connection no reading arrives that is older than allowed."""
    gaps: list[bool] = []
    listening = {"on_gap": lambda connection_is_new: gaps.append(connection_is_new), "stale_seconds": 0.2}
    with Subscriber(broker.port) as subscriber, publisher(broker.port, listening=listening) as made:
        connected(made)
        eventually(lambda: made.published == 1, "the birth")
        broker.freeze()
        for number in range(30):
            for topic in ("state", "nearest", "heatmap"):
                payload = f"{time.monotonic()} {number}".encode()
                made.publish(Message(topic=f"edge-depth/hall/{topic}", payload=payload))
            time.sleep(0.1)
        time.sleep(0.5)
        thawed = time.monotonic()
        broker.thaw()
        eventually(lambda: gaps == [True, False], "the gap to be told")
        made.publish(Message(topic=HEATMAP, payload=f"{time.monotonic()} new".encode()))
        eventually(lambda: b"new" in b"".join(subscriber.payloads(HEATMAP)), "the new one")
    late = [m for m in subscriber.heard if m.topic != STATUS and float(m.payload.split()[0]) < thawed]
    assert 1 >= len(late)  # the one that was on its way when the broker froze
    assert 90 - 1 == made.drops


def test_images_expire_in_a_broker_on_mqtt_5(broker: Mosquitto):
    """What a slow subscriber is to get later than it is worth anything carries its time; readings carry none."""
    with Subscriber(broker.port, protocol="5") as subscriber, publisher(broker.port, protocol="5") as made:
        connected(made)
        made.publish(Message(topic=HEATMAP, payload=PICTURE, expires_seconds=2))
        made.publish(Message(topic=OCCUPANCY, payload=b"ON", qos=1, retain=True))
        assert 2 == subscriber.wait_for(HEATMAP, PICTURE).expires
        assert subscriber.wait_for(OCCUPANCY, b"ON").expires is None


def test_an_absent_broker_leaves_nothing_behind(broker: Mosquitto):
    """After an outage the states are those of now, nothing else of it arrives, and what was dropped is counted."""
    with publisher(broker.port) as made:
        connected(made)
        eventually(lambda: made.published == 1, "the birth")
        broker.stop()
        eventually(lambda: not made.connected, "the loss to be noticed")
        before = made.drops
        for number in range(200):
            made.publish(Message(topic=HEATMAP, payload=PICTURE))
            made.publish(Message(topic="edge-depth/hall/event", payload=b"%d" % number, qos=1))
        made.publish(occupancy(b"ON"))
        assert before + 400 == made.drops
        broker.start()
        with Subscriber(broker.port) as subscriber:
            subscriber.wait_for(OCCUPANCY, b"ON")
            made.publish(Message(topic=HEATMAP, payload=b"new"))
            subscriber.wait_for(HEATMAP, b"new")
            assert {STATUS, OCCUPANCY, HEATMAP} == {message.topic for message in subscriber.heard}
            assert [b"new"] == subscriber.payloads(HEATMAP)


def test_a_broker_that_takes_two_megabytes_at_most(tmp_path: Path):
    """A broker with the limit of mosquitto 2.1 never gets a packet that it would disconnect us for."""
    with (
        Mosquitto(tmp_path / "broker", extra="max_packet_size 2000000") as broker,
        Subscriber(broker.port) as subscriber,
        publisher(broker.port) as made,
    ):
        connected(made)
        made.publish(Message(topic=HEATMAP, payload=bytes(3_000_000)))
        made.publish(Message(topic=HEATMAP, payload=bytes(1_000_000)))
        subscriber.wait_for(HEATMAP, bytes(1_000_000))
        assert made.connected
        assert [b"online"] == subscriber.payloads(STATUS)


# --- more than one ----------------------------------------------------------------------------------------------------


def test_two_daemons_with_one_client_id_are_told(broker: Mosquitto):
    """Each throws the other out; after a few times the words say what may be the matter."""
    with publisher(broker.port, client_id="twin") as first, publisher(broker.port, client_id="twin") as second:
        told = []

        def noticed() -> bool:
            told.extend(each.problem for each in (first, second) if "mqtt.client_id" in (each.problem or ""))
            return bool(told)

        eventually(noticed, "the hint", 60)
    assert "is there another client with this id?" in told[0]


def test_two_daemons_on_one_broker_leave_each_other_alone(broker: Mosquitto):
    """With ids of their own the one's end is not the other's."""
    other = Topics("edge-depth", "door")
    section = MqttSection(host=HOST, port=broker.port)
    with Subscriber(broker.port) as subscriber, publisher(broker.port, client_id=client_id_for(section, TOPICS)):
        subscriber.wait_for(STATUS, b"online")
        made = Publisher(section, other, client_id_for(section, other))
        made.start()
        subscriber.wait_for("edge-depth/door/status", b"online")
        made.stop()
        subscriber.wait_for("edge-depth/door/status", b"offline")
        assert [b"online"] == subscriber.payloads(STATUS)


def test_two_hundred_cameras_on_one_broker(broker: Mosquitto):
    """Each is online, its states are kept, a reading of each arrives, and a restart brings all of them back."""
    section = MqttSection(host=HOST, port=broker.port)
    topics = [Topics("edge-depth", f"camera-{number}") for number in range(200)]
    cameras = [Publisher(section, each, client_id_for(section, each)) for each in topics]
    for camera in cameras:
        camera.start()
    try:
        for round_ in (b"before", b"after"):
            eventually(lambda: all(camera.connected for camera in cameras), "all to connect", 60)
            with Subscriber(broker.port) as subscriber:
                for each, camera in zip(topics, cameras, strict=True):
                    camera.publish(Message(topic=each.trigger("door"), payload=b"ON", qos=1, retain=True))
                    camera.publish(Message(topic=each.named("state"), payload=round_))
                for each in topics:
                    subscriber.wait_for(each.named("status"), b"online")
                    subscriber.wait_for(each.named("state"), round_)
                    subscriber.wait_for(each.trigger("door"), b"ON")
            if round_ == b"before":
                broker.restart()
                eventually(lambda: not any(camera.connected for camera in cameras), "the loss to be noticed")
    finally:
        threads = [threading.Thread(target=camera.stop) for camera in cameras]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


# --- TLS, once more ---------------------------------------------------------------------------------------------------


def test_an_expired_certificate_is_told(tmp_path: Path):
    """A broker whose certificate has run out is not trusted, and the words say so."""
    certificates = make_certificates(tmp_path / "expired", expired=True)
    with (
        Mosquitto(tmp_path / "broker", tls=certificates) as broker,
        publisher(broker.port, tls=TlsSection(ca=str(certificates.ca))) as made,
    ):
        assert "expired" in problem_with(made, "certificate is not accepted")
        assert not made.connected


def test_the_brokers_name_is_sent_in_the_handshake(certificates: Certificates):
    """A broker behind a proxy is found by its name (SNI)."""
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server_cert, certificates.server_key)
    context.sni_callback = lambda _, name, __: names.append(name)

    def serve(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            context.wrap_socket(server.accept()[0], server_side=True).close()

    with socket.create_server((HOST, 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        section = MqttSection(host="localhost", port=server.getsockname()[1], tls=TlsSection(ca=str(certificates.ca)))
        made = Publisher(section, TOPICS, "hall")
        made.start()
        eventually(lambda: names, "the handshake")
        made.stop()
    assert "localhost" == names[0]
