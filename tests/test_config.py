"""The configuration file: what it may hold, and what a person is told when it holds something else."""

import itertools
import json
import re
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.camera import open_camera
from edge.cli import main
from edge.config import (
    MASKED,
    CameraSection,
    Config,
    Section,
    TlsSection,
    WebSection,
    ZoneSection,
    changed,
    dump,
    load,
    parse,
    shown_address,
    split_address,
)
from edge.errors import ConfigError

SHIPPED = Path(__file__).parent.parent / "config" / "edge-depth.yaml"
TRIANGLE = "[[0, 0], [1, 0], [0, 1]]"


def problems(text: str | bytes) -> list[str]:
    """Return what is wrong with a file `c.yaml` of that text."""
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as caught:
        parse(data, "c.yaml")
    return list(caught.value.problems)


def uncommented(text: str) -> str:
    """Return the file with its examples in force: `#key: value` lines take the place of the key's default."""
    examples = [re.sub("#", "", line, count=1) for line in text.splitlines() if re.match(r" *#(\S|  )", line)]
    keys = {key[0] for line in examples if (key := re.match(r" *\w+:", line))}
    lines = []
    for line in text.splitlines():
        if re.match(r" *#(\S|  )", line):
            lines.append(re.sub("#", "", line, count=1))
        elif not line.startswith(tuple(keys)):
            lines.append(line)
    return "\n".join(lines)


def keys_of(node: object) -> set[str]:
    """Return every key at any depth, as `section.key`; list items share their list's name."""
    if isinstance(node, list):
        return {key for item in node for key in keys_of(item)}
    if not isinstance(node, dict):
        return set()
    below = {f"{key}.{inner}" for key, value in node.items() for inner in keys_of(value)}
    return set(node) | below


# The file that ships


def test_shipped_file_equals_the_defaults():
    """The shipped file changes nothing: it is the defaults, written out."""
    assert Config() == load(SHIPPED)


def test_shipped_file_holds_every_key():
    """Every key that has a default stands in the shipped file."""
    assert keys_of(Config().model_dump(mode="json")) == keys_of(yaml.safe_load(SHIPPED.read_text()))


def test_every_key_of_the_shipped_file_is_explained():
    """Above every key of the shipped file, or above its neighbour, stands a comment."""
    lines = SHIPPED.read_text().splitlines()
    together = {"port", "username"}
    for before, line in itertools.pairwise(lines):
        key = re.match(r"  (\w+):", line)
        if key and key[1] not in together:
            assert before.lstrip().startswith("# "), line


def test_examples_of_the_shipped_file_are_valid():
    """The examples of the shipped file, all in force at once, make a valid configuration that fills every null."""
    text = uncommented(SHIPPED.read_text())
    config = parse(text.encode(), "examples")
    assert [f"{s}.{k}" for s, part in config if isinstance(part, Section) for k, v in part if v is None] == [
        "mqtt.password",
        "web.token",
    ]
    assert len(config.zones) == 2
    assert len(config.camera.privacy_masks) == 1
    assert set(TlsSection.model_fields) == set(yaml.safe_load(text)["mqtt"]["tls"])
    assert set(ZoneSection.model_fields) == set(yaml.safe_load(text)["zones"][0])


# What is taken


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "null", "\ufeff", "camera:\nmqtt:\nweb:\n"])
def test_empty_means_defaults(text):
    """An empty file, and sections whose keys are all commented out, are the defaults."""
    assert Config() == parse(text.encode(), "c.yaml")


def with_first_example(section: str) -> str:
    """Return the shipped file with the first # of a section's example gone, and the default above it."""
    text = SHIPPED.read_text(encoding="utf-8")
    return re.sub(rf"(?m)^( *){section}: null\n +#{section}:$", rf"\1{section}:", text)


def test_a_section_whose_keys_are_commented_out_is_the_section():
    """`tls:` with nothing below it encrypts; only the word null, which stands for none, does not."""
    alone = parse(b"mqtt:\n  tls:\n  #  ca: /etc/ca.pem\n", "c.yaml")
    assert TlsSection() == alone.mqtt.tls == parse(with_first_example("tls").encode(), "c.yaml").mqtt.tls
    for none in ("null", "~", "NULL"):
        assert None is parse(f"mqtt: {{tls: {none}}}".encode(), "c.yaml").mqtt.tls
    missing = "c.yaml:2: calibration.floor.height_metres: is missing and has no default"
    assert missing in problems("calibration:\n  floor:\n")
    assert any("floor.tilt_deg: is missing" in problem for problem in problems(with_first_example("floor")))


@pytest.mark.parametrize(
    ("mqtt", "told"),
    [
        ("host: broker.lan, username: u, password: hunter2", True),
        ("host: 192.168.1.5, username: u, password_file: secret", True),
        ("host: broker.lan, username: u, password: hunter2, tls: null", True),
        ("host: broker.lan, username: u, password: hunter2, tls: {}", False),
        ("host: broker.lan, username: u", False),
        ("host: broker.lan, username: u, password: hunter2, enabled: false", False),
        ("host: localhost, username: u, password: hunter2", False),
        ("host: 127.0.0.2, username: u, password: hunter2", False),
        ("host: '::1', username: u, password: hunter2", False),
    ],
)
def test_a_password_that_others_can_read_is_told(mqtt, told, tmp_path, capsys):
    """One warning where it goes unencrypted to another machine, without the password."""
    path = tmp_path / "c.yaml"
    path.write_text(f"mqtt: {{{mqtt}}}\n", encoding="utf-8")
    assert 0 == main(["check", str(path)])
    words = capsys.readouterr().err
    assert told == ("warning: mqtt.tls: the password goes to" in words)
    assert told == words.count("\n")
    assert "hunter2" not in words


def test_values_are_taken():
    """What the file says stands in the sections; a whole number does for a number."""
    config = parse(b"camera: {fps: 2, size: [1280, 720]}\nmodel: {cpus: [0, 1]}\nlog:\n  level: debug\n", "c.yaml")
    assert config.camera.fps == 2.0
    assert config.camera.size == (1280, 720)
    assert config.model.cpus == (0, 1)
    assert config.log.level == "debug"


def test_dates_and_equals_signs_are_text():
    """YAML's dates, merge keys and equals signs are text like any other."""
    assert parse(b"name: 2026-13-45", "c.yaml").name == "2026-13-45"
    assert parse(b"name: <<", "c.yaml").name == "<<"


def test_configuration_is_frozen():
    """Neither a section nor the whole can be changed once it is made."""
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.camera.fps = 1.0
    with pytest.raises(ValidationError, match="frozen"):
        config.id = "other"
    assert hash(config) == hash(Config())


# What is refused, and in which words

REFUSED = {
    "mqtt: {port: 99999}": "c.yaml:1: mqtt.port: must be 1..65535, not 99999",
    "mqtt: {port: 1883.5}": "c.yaml:1: mqtt.port: must be a whole number, not 1883.5",
    "mqtt: {port: '1883'}": "c.yaml:1: mqtt.port: must be a whole number, not '1883'",
    "mqtt: {port: true}": "c.yaml:1: mqtt.port: must be a whole number, not true",
    "mqtt:\n  port:\n": "c.yaml:2: mqtt.port: must be a whole number, not nothing",
    "mqtt: {protocol: 5}": "c.yaml:1: mqtt.protocol: must be 'auto', '3.1.1' or '5', not 5",
    "mqtt: {keepalive: [1, 2]}": "c.yaml:1: mqtt.keepalive: must be a whole number, not a list of 2",
    "mqtt: {host: 'broker:1883'}": (
        "c.yaml:1: mqtt.host: must be a host name or an address alone, such as localhost; the port has its own key, "
        "not 'broker:1883'"
    ),
    "mqtt: {base_topic: a//b}": (
        "c.yaml:1: mqtt.base_topic: must be topic levels joined by single slashes, without + # $ or spaces, not 'a//b'"
    ),
    "mqtt: {enabled: 1}": "c.yaml:1: mqtt.enabled: must be true or false, not 1",
    "mqtt: {client_id: ''}": "c.yaml:1: mqtt.client_id: must not be empty",
    "mqtt: [1]": "c.yaml:1: mqtt: must be a section of `key: value` lines",
    "mqtt: {username: u, password: p, password_file: f}": (
        "c.yaml:1: mqtt.password_file: stands beside password; keep one of the two"
    ),
    "mqtt: {password: p}": "c.yaml:1: mqtt.password: needs username too",
    "mqtt: {password_file: f}": "c.yaml:1: mqtt.password_file: needs username too",
    "mqtt: {tls: {key: k}}": ("c.yaml:1: mqtt.tls.key: needs cert too, the certificate that the key belongs to"),
    "mqtt: {tls: {certs: k}}": "c.yaml:1: mqtt.tls.certs: unknown key; did you mean 'cert'?",
    "heatmap:\n\n  widht: 3": "c.yaml:3: heatmap.widht: unknown key; did you mean 'width'?",
    "web: {address: x}": (
        "c.yaml:1: web.address: unknown key; known here: token, token_file, listen, names, upload_bytes, upload_pixels"
    ),
    "web: {token: short}": (
        "c.yaml:1: web.token: must have 16 to 200 plain characters without spaces; `openssl rand -hex 16` makes some"
    ),
    "web: {token: 0123456789abcdef, token_file: f}": (
        "c.yaml:1: web.token_file: stands beside token; keep one of the two"
    ),
    "web: {names: [http://pi]}": (
        "c.yaml:1: web.names.0: must be a host name alone in small letters, such as pi.fritz.box; the port is that of"
        " listen, not 'http://pi'"
    ),
    f"zones: [{{name: a, polygon: {TRIANGLE}, poligon: []}}]": (
        "c.yaml:1: zones.0.poligon: unknown key; did you mean 'polygon'?"
    ),
    "camra: {}": "c.yaml:1: camra: unknown key; did you mean 'camera'?",
    "camera: {fps: 0}": "c.yaml:1: camera.fps: must be 0.05..120, not 0",
    "camera: {fps: .nan}": "c.yaml:1: camera.fps: must be 0.05..120, not .nan",
    "camera: {fps: .inf}": "c.yaml:1: camera.fps: must be 0.05..120, not .inf",
    "camera: {fps: fast}": "c.yaml:1: camera.fps: must be a number, not 'fast'",
    "camera: {rotate: 45}": "c.yaml:1: camera.rotate: must be 0, 90, 180 or 270, not 45",
    "camera: {flip: both ways}": (
        "c.yaml:1: camera.flip: must be 'none', 'horizontal', 'vertical' or 'both', not 'both ways'"
    ),
    "camera: {size: 640}": "c.yaml:1: camera.size: must be a list, not 640",
    "camera: {size: [640]}": "c.yaml:1: camera.size.1: is missing and has no default",
    "camera: {size: [640, 8]}": "c.yaml:1: camera.size.1: must be 16..8192, not 8",
    "camera: {size: [6, 4, 3]}": "c.yaml:1: camera.size: must be a list of at most 2, not a list of 3",
    "camera: {privacy_masks: [[[0, 0], [1, 0], 5]]}": ("c.yaml:1: camera.privacy_masks.0.2: must be a list, not 5"),
    "model: {cpus: [a]}": "c.yaml:1: model.cpus.0: must be a whole number, not 'a'",
    'name: "\\ud800"': "c.yaml:1: name: must not hold broken characters",
    "camera: {source: ''}": "c.yaml:1: camera.source: must not be empty",
    "camera: {source: 0}": "c.yaml:1: camera.source: must be text (put it in quotes), not 0",
    "model: {input_size: 250}": "c.yaml:1: model.input_size: must be a multiple of 32, not 250",
    "model: {cpus: []}": "c.yaml:1: model.cpus: must name one at least",
    "id: Front Door": (
        "c.yaml:1: id: must be lower-case letters, digits and single hyphens, such as front-door, not 'Front Door'"
    ),
    "id: no": "c.yaml:1: id: must be text (put it in quotes), not no",
    "name: 0x1f": "c.yaml:1: name: must be text (put it in quotes), not 0x1f",
    f"name: {'9' * 81}.": "c.yaml:1: name: must be text (put it in quotes), not " + "9" * 57 + "...",
    f"name: {'x' * 81}": "c.yaml:1: name: must have 80 characters at most",
    "zones:\n": "c.yaml:1: zones: must be a list, not nothing",
    f"zones: [{{polygon: {TRIANGLE}}}]": "c.yaml:1: zones.0.name: is missing and has no default",
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.items())
def test_refused(text, problem):
    """A wrong value is refused with its place, the rule and the value."""
    assert [problem] == problems(text)


@pytest.mark.parametrize(
    ("polygon", "problem"),
    [
        ("[[0, 0], [1, 1]]", "must have 3 points at least"),
        ("[[0, 0], [0.5, 0.5], [1, 1]]", "must enclose an area; its points lie on one line"),
        ("[[0, 0], [1, 0], [0, 1.01]]", "must hold fractions of the frame, 0..1, x from the left and y from the top"),
        ("[[0, 0], [1, 0], [0, .nan]]", "must hold fractions of the frame, 0..1, x from the left and y from the top"),
    ],
)
def test_polygon_refused(polygon, problem):
    """A polygon needs three points, an area, and fractions of the frame; masks and zones alike."""
    assert [f"c.yaml:1: camera.privacy_masks.0: {problem}"] == problems(f"camera: {{privacy_masks: [{polygon}]}}")
    assert [f"c.yaml:1: zones.0.polygon: {problem}"] == problems(f"zones: [{{name: a, polygon: {polygon}}}]")


def test_polygon_taken_in_either_direction():
    """A polygon may run clockwise or not, to the very edges of the frame."""
    for points in ("[[0, 0], [1, 0], [0, 1]]", "[[0, 0], [0, 1], [1, 0]]"):
        config = parse(f"zones: [{{name: a, polygon: {points}}}]".encode(), "c.yaml")
        assert len(config.zones[0].polygon) == 3


def test_zone_names_differ():
    """Two zones of one name are refused: their topics would be the same."""
    text = f"zones:\n  - {{name: a, polygon: {TRIANGLE}}}\n  - {{name: a, polygon: {TRIANGLE}}}\n"
    assert problems(text) == ["c.yaml:1: zones: names must differ; used more than once: a"]


def test_all_problems_at_once_in_the_order_of_the_file():
    """Every problem of a file is told in one go, from the top down, each with its own line."""
    text = "camera:\n  fps: 0\nmqtt:\n  port: 0\n  prot: 1\n  port: x\nzones:\n  - name: A\nname: ${EDGE_UNSET}\n"
    assert problems(text) == [
        "c.yaml:2: camera.fps: must be 0.05..120, not 0",
        "c.yaml:5: mqtt.prot: unknown key; did you mean 'port'?",
        "c.yaml:6: mqtt.port: stands here for the second time",
        "c.yaml:8: zones.0.name: must be lower-case letters, digits and single hyphens, such as front-door, not 'A'",
        "c.yaml:8: zones.0.polygon: is missing and has no default",
        "c.yaml:9: name: the environment variable EDGE_UNSET is not set",
    ]


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "127.0.0.2:0", "localhost:65535", "[::1]:8080"])
def test_page_listens_on_loopback(listen):
    """Every loopback address is taken for the page."""
    assert listen == WebSection(listen=listen).listen


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ("raspberrypi:8080", "an address of this machine"),
        ("localhost.example.org:8080", "an address of this machine"),
        ("127.0.0.1", "host:port"),
        ("127.0.0.1:99999", "0..65535"),
        ("::1:8080", "host:port"),
        (":8080", "host:port"),
        ("http://127.0.0.1:8080", "host:port"),
    ],
)
def test_page_listens_at_an_address(listen, words):
    """Anything else is refused, with what is allowed and the value."""
    (problem,) = problems(f"web: {{listen: '{listen}'}}")
    assert problem.startswith("c.yaml:1: web.listen: must be ")
    assert words in problem
    assert problem.endswith(f"not '{listen}'")


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "192.168.1.5:8080"])
def test_page_listens_elsewhere_with_a_token_alone(listen):
    """Whom others can reach needs a token, in the configuration or in a file."""
    (problem,) = problems(f"web: {{listen: '{listen}'}}")
    assert problem.startswith("c.yaml:1: web.listen: needs web.token too")
    for token in ("token: 0123456789abcdef", "token_file: f"):
        assert not parse(f"web: {{listen: '{listen}', {token}}}".encode(), "c.yaml").web.is_loopback


def test_split_address():
    """An address falls into host and port, with or without brackets."""
    assert split_address("127.0.0.1:8080") == ("127.0.0.1", 8080)
    assert split_address("[::1]:0") == ("::1", 0)


# What is no YAML, or too much of it


DEEP = b"".join(b" " * i + b"a:\n" for i in range(100))
BROKEN = [
    (b"- a\n- b\n", "1: must be a section of `key: value` lines"),
    (b"hunter2", "1: must be a section of `key: value` lines"),
    (b"a: 1\n---\nb: 2", "2: not valid YAML: expected a single document in the stream, but found another document"),
    (b"id: a\nname: \xff\n", "2: is not UTF-8 text"),
    (b"id: a\nname: \x07\n", "2: not valid YAML: holds the character 0x7"),
    (b"log: [", "1: not valid YAML: while parsing a flow node, expected the node content, but found '<stream end>'"),
    (b"a: b: c", "1: not valid YAML: mapping values are not allowed here"),
    (b"? [a, b]\n: 1\n", "1: must have plain words as keys"),
    (b"name: [" + b"[" * 5000, "1: not valid YAML: is nested more than 20 levels deep"),
    (DEEP, "20: not valid YAML: is nested more than 20 levels deep"),
    (b"#" * 100_001, " must not be larger than 100000 bytes"),
    (b"camera: {fps: " + b"9" * 5000 + b"}", "1: camera.fps: must be a number that can be read, or text in quotes"),
    (b"camera: {fps: 0x}", "1: camera.fps: must be a number, not '0x'"),
    (b"camera: {fps: 0b_}", "1: camera.fps: must be a number that can be read, or text in quotes"),
]


@pytest.mark.parametrize(("data", "problem"), BROKEN)
def test_broken_files(data, problem):
    """What is not one YAML document of reasonable size is refused, with the line where it goes wrong."""
    assert problems(data) == [f"c.yaml:{problem}"]


def test_aliases_are_refused():
    """A billion laughs stays a few lines: anchors and aliases are refused where the first one stands."""
    laughs = "a: &a [x, x]\n" + "".join(
        f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert problems(laughs) == ["c.yaml:1: not valid YAML: a value that begins with & must stand in quotes"]
    assert problems("name: *a") == ["c.yaml:1: not valid YAML: a value that begins with * must stand in quotes"]


def test_tags_are_refused():
    """A tag can't make anything of a value."""
    (problem,) = problems("name: !!python/object/apply:os.system ['true']")
    assert problem == "c.yaml:1: not valid YAML: a value that begins with ! must stand in quotes"


def test_unreadable_files(tmp_path):
    """A file that can't be read is a ConfigError with the system's reason."""
    with pytest.raises(ConfigError, match=r"none\.yaml: can't be read: No such file or directory$"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"can't be read: Is a directory$"):
        load(tmp_path)


def outcome(data: bytes) -> Config | tuple[str, ...]:
    """Return the configuration that `data` makes, or what is wrong with it; nothing else is caught."""
    try:
        return parse(data, "c.yaml")
    except ConfigError as error:
        return error.problems


def is_told_or_taken(data: bytes) -> bool:
    """Return whether `data` makes a configuration, or readable lines that name the file."""
    found = outcome(data)
    return isinstance(found, Config) or all(line.startswith("c.yaml:") and line.isprintable() for line in found)


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes(data):
    """Whatever the bytes are, reading them ends in a configuration or in a ConfigError."""
    assert is_told_or_taken(data)


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="ab:-{}[],&*!|>'\"%@`#? \n\t0.~${}\\x", max_size=60))
def test_random_yaml_signs(text):
    """Whatever YAML's own signs add up to, reading them ends in a configuration or in a ConfigError."""
    assert is_told_or_taken(text.encode())


def any_value() -> st.SearchStrategy[object]:
    """Return anything that YAML can hold: scalars, lists and mappings of them, with known keys among others."""
    keys = st.sampled_from(sorted({part for key in keys_of(Config().model_dump()) for part in key.split(".")}))
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=8
    )


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(Config.model_fields)), any_value(), min_size=1, max_size=4))
def test_random_values(values):
    """Whatever stands where, reading it ends in a configuration or in a ConfigError."""
    assert is_told_or_taken(yaml.safe_dump(values, allow_unicode=True).encode())


# The environment and secrets


def test_environment_is_used(monkeypatch):
    """`${NAME}` in a text is the environment variable of that name; anything else stays as it is."""
    monkeypatch.setenv("EDGE_HOST", "broker.lan")
    config = parse(b"mqtt: {host: '${EDGE_HOST}'}\nname: 'a ${EDGE_HOST} $EDGE_HOST ${} $5'", "c.yaml")
    assert config.mqtt.host == "broker.lan"
    assert config.name == "a broker.lan $EDGE_HOST ${} $5"


def test_environment_is_not_expanded_twice(monkeypatch):
    """What comes from the environment is not read for variables again."""
    monkeypatch.setenv("EDGE_PASSWORD", "${HOME}*&!")
    config = parse(b"mqtt: {username: u, password: '${EDGE_PASSWORD}'}", "c.yaml")
    assert config.mqtt.password == "${HOME}*&!"


def test_dump_masks_secrets_and_reads_back():
    """The printed configuration holds all values but the secrets."""
    text = "camera: {source: 'rtsp://me:hunter2@cam:554/live'}\nmqtt: {username: me, password: hunter2}"
    printed = dump(parse(f"{text}\nweb: {{token: hunter2-hunter2-hunter2}}".encode(), "c.yaml"))
    assert "hunter2" not in printed
    assert yaml.safe_load(printed)["web"]["token"] == MASKED
    assert "rtsp://cam:554\n" in printed
    assert yaml.safe_load(printed)["mqtt"]["password"] == MASKED
    assert Config() == parse(dump(Config()).encode(), "printed")


@pytest.mark.parametrize(
    "text",
    [
        "mqtt: {username: u, password: [hunter2]}",
        "mqtt: {username: u, password: {hunter2: 1}}",
        "mqtt: {username: u, password: !hunter2}",
        "mqtt: {username: u, password: *hunter2}",
        "mqtt: {username: u, password: &hunter2 x}",
        "mqtt: {username: u, password: @hunter2}",
        "mqtt: {username: u, password: %hunter2}",
        "mqtt: {username: u, password: \"hunter2\\q\"}",
        "mqtt: {username: u, pasword: hunter2}",
        "mqtt: {username: u, password:hunter2}",
        "mqtt: {username: u, password=hunter2}",
        "mqtt: {username: u, password hunter2: x}",
        "mqtt: {username: u, password: {hunter2: 1, hunter2: 2}}",
        "camera: {rtsp://u:hunter2@cam/live}",
        "mqtt: {password: hunter2}",
        "mqtt: {username: u, password: '${EDGE_SECRET}', password_file: x}",
        "mqtt: {username: u, password: x: hunter2}",
        "mqtt: {host: 'u:hunter2@broker'}",
        "mqtt: hunter2",
        "mqtt: {host: '${EDGE_SECRET} '}",
        "camera: {source: [rtsp://u:hunter2@cam/]}",
        "camera: {flip: rtsp://u:hunter2@cam/}",
        "camera: {flip: 'http://cam/?user=u&password=hunter2'}",
        "web: {token: hunter2}",
        "web: {token: [hunter2]}",
        "web: {token: ' hunter2-hunter2-hunter2 '}",
    ],
)  # fmt: skip
def test_messages_hold_no_secret(text, monkeypatch):
    """No message quotes a password, whatever is wrong with it or around it."""
    monkeypatch.setenv("EDGE_SECRET", "hunter2")
    assert "hunter2" not in "\n".join(problems(text))


# Addresses with a secret, and what may be shown of them.
SECRET = {
    "rtsp://user:hunter2@10.0.0.5/live": "rtsp://10.0.0.5",
    "rtsp://10.0.0.5:554/user=admin_password=hunter2_channel=1_stream=0.sdp?real_stream": "rtsp://10.0.0.5:554",
    "rtsp://10.0.0.5:554/user=admin&password=hunter2&channel=1": "rtsp://10.0.0.5:554",
    "http://10.0.0.5/hunter2/mjpg": "http://10.0.0.5",
    "rtsps://cam.lan:7441/hunter2?enableSrtp": "rtsps://cam.lan:7441",
    "http://cam/snap?user=a&pwd=hunter2": "http://cam",
    "rtsp://cam/live#hunter2": "rtsp://cam",
    "rtsp://user:hunter2@[fe80::1%eth0]:554/live": "rtsp://[fe80::1%eth0]:554",
    "rtsp://user:hunter 2@cam/live": "rtsp://…",
    "rtsp://user:hunter2\n@cam/live": "rtsp://…",
    "rtsp://user:hunter2?x@cam/live": "rtsp://…",
    "rtsp://user:hunter2/x@cam/live": "rtsp://…",
    "rtsp://user:x/hunter2@cam/live": "rtsp://…",
    "rtsp://user:x#hunter2@cam": "rtsp://…",
    "rtsp://12:34#hunter2@cam": "rtsp://…",
    "rtsp://user:x@hunter2@cam/live": "rtsp://…",
    "rtsp://user:x\\hunter2@cam/live": "rtsp://…",
    "rtsp://user:hunter2": "rtsp://…",
    "rtsp://user:hunter2%40cam/live": "rtsp://…",
    "rtsp://[::1/hunter2": "rtsp://…",
    "rtsp://cam:999999/hunter2": "rtsp://…",
    "rtsp:///hunter2": "rtsp://…",
    "rtsp:/user:hunter2@cam": "rtsp://…",
    "rtsp:user:hunter2@cam": "rtsp://…",
    " rtsp://user:hunter2@cam": "rtsp://…",
    "user:hunter2@cam/live": MASKED,
    "//user:hunter2@cam/live": MASKED,
    "/rtsp://user:hunter2@cam/live": MASKED,
    "10.0.0.5:554/user=admin_password=hunter2": MASKED,
}
PLAIN = ("picamera2", "picamera2:1", "/dev/video0", "/dev/v4l/by-path/pci-0000:00:14.0-usb-0:1:1.0-video-index0")
PLAIN += ("/srv/a@b/clip #1?.mp4", "clip.mp4", "clips/hall.d/a.mp4", "./x@y.mp4", "/srv/HTTP://x", "http://cam:8080")


@pytest.mark.parametrize(("address", "shown"), [*SECRET.items(), *zip(PLAIN, PLAIN, strict=True)])
def test_of_an_address_no_more_is_shown_than_scheme_host_and_port(address, shown):
    """Where it is not plain, the scheme alone; a path, and what else is no address, stays as it is."""
    camera = CameraSection(source=address)
    assert shown == shown_address(address) == camera.safe_source
    printed = dump(Config(camera=camera))
    assert shown == yaml.safe_load(printed)["camera"]["source"]


@pytest.mark.parametrize("address", SECRET)
def test_an_address_in_the_wrong_place_is_not_quoted(address):
    """Neither as the value of another key nor as a key, nor where no camera is to be had at it."""
    quoted = json.dumps(address)
    told = problems(f"camera: {{flip: {quoted}, {quoted}: 1}}\n{quoted}: 1\nmodel: {{engine: {quoted}}}")
    assert 4 == len(told)
    try:
        changed(Config(), {"heatmap.colormap": address})
    except ConfigError as error:
        told += error.problems
    try:
        with closing(open_camera(CameraSection(source=address))) as camera:
            told.append(camera.name)
    except ConfigError as error:
        told += error.problems
    assert "hunter" not in "\n".join(told)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("RTSP://U:P@Cam/Live", "rtsp://U:P@Cam/Live"),
        ("Https://cam/Snap?To=HTTP://x", "https://cam/Snap?To=HTTP://x"),
        ("/srv/HTTP://x", "/srv/HTTP://x"),
    ],
)
def test_the_scheme_of_a_stream_is_in_small_letters(source, expected):
    """OpenCV opens no RTSP://; the rest of the address, and a path, are left as they are."""
    assert expected == parse(f"camera: {{source: '{source}'}}".encode(), "c.yaml").camera.source


def test_password_from_a_file(tmp_path, monkeypatch):
    """A password file is read without its line end; a relative one from systemd's credentials first."""
    (tmp_path / "secret").write_text("hunter2\n")
    text = "mqtt: {username: u, password_file: '%s'}"
    assert parse((text % (tmp_path / "secret")).encode(), "c.yaml").mqtt.read_password() == "hunter2"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert parse((text % "secret").encode(), "c.yaml").mqtt.read_password() == "hunter2"


def test_password_as_it_stands():
    """Without a password file the password is the key's own, or none."""
    assert parse(b"mqtt: {username: u, password: p}", "c.yaml").mqtt.read_password() == "p"
    assert Config().mqtt.read_password() is None


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (b"hunter2\xff", "is not UTF-8")])
def test_password_file_unreadable(content, words, tmp_path):
    """A password file that can't be read is a ConfigError that names it and keeps its content to itself."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    section = parse(f"mqtt: {{username: u, password_file: '{path}'}}".encode(), "c.yaml").mqtt
    with pytest.raises(ConfigError, match=words) as caught:
        section.read_password()
    assert str(path) in str(caught.value)
    assert "hunter2" not in str(caught.value)


TRIGGER = "triggers:\n  - {name: visitor, near: 1.5%s}\n"
POINTS = "calibration:\n  points: [{x: 0.1, y: 0.9, metres: 1}, {x: 0.5, y: 0.5, metres: 3}]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (POINTS + TRIGGER % ", zone: door", "name zones that do not exist: door"),
        (POINTS + TRIGGER % ", clear: 1.2", "must be at least near, 1.5"),
        (TRIGGER % ", measure: nearness, clear: 2", "must be at most near, 1.5"),
        ("scene: {mode: moving}\n" + TRIGGER % ", measure: nearness", "need scene.mode still"),
        ("calibration:\n  floor: {height_metres: 2, tilt_deg: 20, polygon: [[0, 0], [1, 0], [1, 1]]}\n", "floor needs"),
        ("camera: {fps: 0.1, timeout: 5}\n", "must be longer than the 10 s between two frames"),
        (POINTS.replace("x: 0.1", "x: 1.1"), "must be 0..1, not 1.1"),
        ("zones:\n  - {name: a, polygon: [[0, 0], [2, 0], [1, 1]]}\n", "must hold fractions of the frame, 0..1"),
    ],
)
def test_what_can_not_work_together_is_told(text, words):
    """Triggers, calibration, zones and camera that contradict each other are errors with what to do."""
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), "c.yaml")
    assert words in str(caught.value)


def test_what_will_not_do_what_is_expected_is_a_warning():
    """A trigger in metres waits for a calibration, which needs this very file; a moving camera reads zones alone."""
    (warning,) = parse((TRIGGER % "").encode(), "c.yaml").warnings
    assert warning == "triggers: frozen until the camera is calibrated, since they measure metres: visitor"
    (warning,) = parse(b"scene: {mode: moving}", "c.yaml").warnings
    assert warning.startswith("zones: there are none")
    assert parse(b"", "c.yaml").warnings == ()


def test_triggers_and_calibration_that_fit_are_taken():
    """A trigger in metres with two points, and one in nearness, are valid."""
    config = parse((POINTS + TRIGGER % ", clear: 1.8").encode(), "c.yaml")
    assert config.triggers[0].clear == 1.8
    assert parse((TRIGGER % ", measure: nearness").encode(), "c.yaml").triggers[0].measure == "nearness"


def test_the_overlay_needs_leave_for_the_picture():
    """The camera's picture leaves the machine with publish.picture only."""
    assert "heatmap: overlay needs publish.picture too" in problems("heatmap: {overlay: true}")[0]
    assert parse(b"heatmap: {overlay: true}\npublish: {picture: true}\n", "c.yaml").heatmap.overlay


def test_a_file_of_an_instance_gives_its_camera_an_id_of_its_own(tmp_path, monkeypatch):
    """Two cameras of one machine never share topics by forgetting an id; an id that is there stays."""
    monkeypatch.setattr("socket.gethostname", lambda: "pi5.lan")
    ids = []
    for name, text in [("edge-depth", ""), ("edge-depth@Front_door", ""), ("edge-depth@back", "id: yard\n")]:
        (tmp_path / f"{name}.yaml").write_text(f"{text}camera: {{}}\n", encoding="utf-8")
        ids.append(load(tmp_path / f"{name}.yaml").id)
    assert [None, "pi5-front-door", "yard"] == ids
