"""What of a message is taken as a command, and what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.daemon.control import COMMANDS, Refused, Request, Setting, parse
from edge.publish.messages import response_message
from edge.topics import Topics

TOPICS = Topics("edge-depth", "hall")


@pytest.mark.parametrize(
    ("option", "payload", "key", "value"),
    [
        ("enabled", b"ON", "camera.enabled", True),
        ("enabled", b"OFF", "camera.enabled", False),
        ("interval", b"2.5", "heatmap.interval", 2.5),
        ("colormap", b"magma", "heatmap.colormap", "magma"),
        ("trigger/door/near", b"1.5", "triggers.door.near", 1.5),
    ],
)
def test_options_are_read(option, payload, key, value):
    """Each option has its key in the configuration and a value of its type."""
    assert Setting(option=option, key=key, value=value) == parse(TOPICS, TOPICS.setting(option), payload)


@pytest.mark.parametrize(
    ("option", "payload", "words"),
    [
        ("enabled", b"on", r"must be ON or OFF, not 'on'"),
        ("interval", b"soon", r"must be a number, not 'soon'"),
        ("interval", b"nan", r"must be a number"),
        ("interval", b"-inf", r"must be a number"),
        ("colormap", b"\xff", r"must be UTF-8 text"),
        ("interval", b"1" * 20_000, r"20000 bytes; 16384 are allowed"),
        ("weights", b"x", r"'weights' can't be set; what can: enabled"),
        ("trigger/door/clear", b"1", r"can't be set"),
        ("trigger/D.or/near", b"1", r"can't be set"),
    ],
)
def test_what_is_no_setting_is_refused(option, payload, words):
    """The reason says what is allowed; broker, camera, weights and everything else can't be set."""
    with pytest.raises(Refused, match=words) as refused:
        parse(TOPICS, TOPICS.setting(option), payload)
    assert refused.value.command is None


@pytest.mark.parametrize("command", COMMANDS)
def test_requests_carry_their_transaction(command):
    """The rest of the JSON object are the arguments; an empty payload asks too."""
    asked = parse(TOPICS, TOPICS.request(command), b'{"transaction": "a-1", "points": []}')
    assert Request(command=command, transaction="a-1", arguments={"points": []}) == asked
    assert Request(command=command, transaction=None, arguments={}) == parse(TOPICS, TOPICS.request(command), b"")


@pytest.mark.parametrize(
    ("command", "payload", "transaction", "words"),
    [
        ("explode", b'{"transaction": 7}', 7, r"there is no explode; there are snapshot"),
        ("snapshot", b"now", None, r"must be JSON"),
        ("snapshot", b"[" * 16_000, None, r"20 levels of brackets at most"),
        ("snapshot", b"[" * 400, None, r"20 levels"),
        ("snapshot", b"[1]", None, r"must be a JSON object"),
        ("snapshot", b'{"a": NaN}', None, r"NaN is no number"),
        ("snapshot", b'{"transaction": [1]}', None, r"transaction must be text or a whole number"),
        ("snapshot", b'{"transaction": "\\ud800"}', None, r"surrogates"),
        ("snapshot", b'{"transaction": "\\u0000"}', None, r"printable"),
        ("snapshot", json.dumps({"transaction": "x" * 129}).encode(), None, r"128 printable characters at most"),
        ("snapshot", b" " * 20_000, None, r"20000 bytes"),
    ],
)
def test_a_request_that_can_not_be_understood_is_refused(command, payload, transaction, words):
    """Who asked is known, so that the refusal can be answered."""
    with pytest.raises(Refused, match=words) as refused:
        parse(TOPICS, TOPICS.request(command), payload)
    assert (command, transaction) == (refused.value.command, refused.value.transaction)


def test_a_name_that_is_no_command_is_not_answered():
    """A response has a topic of its own only for a name that may stand in a topic."""
    with pytest.raises(Refused, match="is no command") as refused:
        parse(TOPICS, TOPICS.request("x" * 65), b"")
    assert refused.value.command is None


@given(st.text(max_size=40), st.binary(max_size=200) | st.from_regex(rb"\{\"transaction\": ?.{0,20}\}"))
def test_no_message_does_harm(name, payload):
    """Whatever arrives is a command or refused, and either can be answered in JSON."""
    for topic in (TOPICS.request(name), TOPICS.setting(name)):
        try:
            command = parse(TOPICS, topic, payload)
        except Refused as refused:
            command = refused
            str(refused).encode()
        if getattr(command, "command", None):
            assert response_message(TOPICS, command.command, command.transaction, {}).payload
