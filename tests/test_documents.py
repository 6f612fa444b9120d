"""JSON that somebody else wrote is an object of some levels, or refused with a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.files import parse_object


def nested(levels: int, opened: str = '{"a":', closed: str = "}") -> str:
    """Return an object of so many levels."""
    return '{"a":' + opened * (levels - 1) + "1" + closed * (levels - 1) + "}"


def test_levels_are_limited_and_brackets_are_not():
    """Twenty levels are enough; those in a text are none, and many places beside each other are one level more."""
    assert json.loads(nested(20)) == parse_object(nested(20))
    for text in (nested(21), nested(498), nested(30, "[", "]"), nested(9000), '{"\\"": ' + nested(20) + "}"):
        with pytest.raises(ValueError, match="20 levels of brackets at most"):
            parse_object(text)
    assert {"a": "{" * 100 + '\\"[['} == parse_object(json.dumps({"a": "{" * 100 + '\\"[['}))
    assert 5000 == len(parse_object(json.dumps({"a": [{}] * 5000}))["a"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "must be JSON"),
        (b"[1]", "must be a JSON object"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": 1e999}', "1e999 is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "must be JSON"),
        (b'{"a": "\xff"}', "must be UTF-8"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        ('{"a": 1}'.encode("utf-16"), "must be UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), "must be JSON"),
    ],
)
def test_what_is_no_object_is_refused(text: bytes, words: str):
    """The reason goes on from the name of what is refused; other encodings could hide their brackets."""
    with pytest.raises(ValueError, match=words):
        parse_object(text)


def test_a_mark_of_the_byte_order_is_no_matter():
    """Some editors write one."""
    assert {"a": 1} == parse_object(b'\xef\xbb\xbf{"a": 1}')


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), values))
def test_an_object_is_what_was_written(written: dict[str, object]):
    """Whatever it holds."""
    assert (
        written == parse_object(json.dumps(written)) == parse_object(json.dumps(written, ensure_ascii=False).encode())
    )


@given(st.binary() | st.text().map(str.encode) | st.text(alphabet='[]{}":,\\1a').map(str.encode))
def test_no_text_does_harm(text: bytes):
    """It is an object, or a ValueError says why not."""
    found = said(text)
    assert isinstance(found, dict) or found.startswith("must")


def said(text: bytes) -> dict[str, object] | str:
    """Return the object, or why it is none."""
    try:
        return parse_object(text)
    except ValueError as error:
        return str(error)
