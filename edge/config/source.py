"""From the bytes of a YAML file to plain values, and from validation errors to lines that a person can act on."""

import difflib
import os
import re
import typing
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edge.config.sections import Config, Section
from edge.config.values import MASKED, shown_address
from edge.errors import ConfigError

_MAX_NESTING = 20

_Path = tuple[int | str, ...]


class _Loader(yaml.SafeLoader):
    """YAML without what a configuration has no use for: aliases, anchors, tags, dates and merge keys.

    So a small file can't grow (a billion laughs), and a password that begins with one of their signs is not lost, nor
    quoted in a message.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [pair for pair in pairs if pair[0].rsplit(":", 1)[1] in ("bool", "int", "float", "null")]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.nesting = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.nesting += 1
        if self.nesting > _MAX_NESTING:
            self._refuse(f"is nested more than {_MAX_NESTING} levels deep")
        node = super().compose_node(parent, index)
        self.nesting -= 1
        return node

    def fetch_alias(self) -> None:
        self._refuse("a value that begins with * must stand in quotes")

    def fetch_anchor(self) -> None:
        self._refuse("a value that begins with & must stand in quotes")

    def fetch_tag(self) -> None:
        self._refuse("a value that begins with ! must stand in quotes")

    def _refuse(self, problem: str) -> None:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())


def compose(data: bytes, name: str) -> yaml.Node | None:
    """Return the only document of a file as nodes; null if it is empty.

    Raises:
        ConfigError: the file is not UTF-8, not YAML, or more than one document.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: is not UTF-8 text") from error
    try:
        return _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        words = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{name}:{line}: not valid YAML: {words}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}:{line}: not valid YAML: holds the character {error.character:#x}") from error


class Source:
    """Plain values out of a file's nodes, and what a message needs to know: the line and the text of each key."""

    def __init__(self) -> None:
        self.places: dict[_Path, tuple[int, str]] = {(): (1, "")}
        self.problems: dict[_Path, tuple[int, str]] = {}
        self._scalars = _Loader("")

    def value(self, node: yaml.Node, path: _Path, line: int) -> Any:
        """Return the node's value: lists as tuples, `${NAME}` replaced by the environment's."""
        self.places[path] = line, _shown(node, path)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.value(item, (*path, i), item.start_mark.line + 1) for i, item in enumerate(node.value))
        if isinstance(node, yaml.MappingNode):
            return dict(self._pairs(node, path))
        if node.value == "" and node.tag.endswith(":null") and _section_at(path):
            return {}  # its keys are all commented out: it stands there, unlike a section that is `null`
        try:
            value = self._scalars.construct_object(node)
        except ValueError:  # such as 0b_, or 5000 digits
            self.report(path, "must be a number that can be read, or text in quotes")
            return None
        return self._expand(value, path) if isinstance(value, str) else value

    def _pairs(self, node: yaml.MappingNode, path: _Path) -> Iterator[tuple[str, Any]]:
        seen = set()
        for key, item in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.report(path, "must have plain words as keys", line)
                continue
            if key.value in seen:
                self.report((*path, key.value), "stands here for the second time", line)
            seen.add(key.value)
            yield key.value, self.value(item, (*path, key.value), line)

    def _expand(self, text: str, path: _Path) -> str:
        def replace(match: re.Match[str]) -> str:
            if match[1] not in os.environ:
                self.report(path, f"the environment variable {match[1]} is not set")
            return os.environ.get(match[1], "")

        return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", replace, text)

    def report(self, path: _Path, problem: str, line: int | None = None) -> None:
        """Keep a problem; the first one of a key stands, since the others follow from it."""
        known = next(path[:end] for end in range(len(path), -1, -1) if path[:end] in self.places)
        self.problems.setdefault(path, (line or self.places[known][0], problem))

    def explain(self, error: ValidationError) -> None:
        """Put pydantic's problems in words."""
        for detail in error.errors(include_url=False):
            path = detail["loc"]
            given = self.places[path][1] if path in self.places else _plain(detail["input"], path)
            self.report(path, _problem(detail, given))

    def unplaced(self) -> list[str]:
        """Return `key: problem` for each problem of values that stand in no file."""
        return [f"{_dotted(path)}: {problem}" for path, (_, problem) in self.problems.items()]

    def in_order(self) -> list[str]:
        """Return `line: key: problem` for each problem, in the order of the file."""
        found = sorted((line, _dotted(path), problem) for path, (line, problem) in self.problems.items())
        return [f"{line}: {key}: {problem}" if key else f"{line}: {problem}" for line, key, problem in found]


_WORDS = {
    "missing": "is missing and has no default",
    "value_error": "{error}",
    "literal_error": "must be {expected}",
    "string_type": "must be text (put it in quotes)",
    "string_unicode": "must not hold broken characters",
    "string_too_short": "must not be empty",
    "string_too_long": "must have {max_length} characters at most",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "too_long": "must be a list of at most {max_length}",
    "model_type": "must be a section of `key: value` lines",
}


def _problem(detail: ErrorDetails, given: str) -> str:
    if detail["type"] == "extra_forbidden":
        return _unknown(detail["loc"])
    words = _WORDS.get(detail["type"], "can't be used").format(**detail.get("ctx", {}))
    shown = given and words.startswith("must be ") and detail["type"] != "model_type"
    return f"{words}, not {given}" if shown else words


def _unknown(path: _Path) -> str:
    section = _section_at(path[:-1])
    known = list(section.model_fields) if section else []
    near = difflib.get_close_matches(str(path[-1]), known, n=1)
    return "unknown key; " + (f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}")


def _section_at(path: _Path) -> type[Section] | None:
    """Return the section that belongs at a place of the file."""
    section: type[Section] | None = Config
    for part in path:
        if section and isinstance(part, str):
            field = section.model_fields.get(part)
            section = _section_in(field.annotation) if field else None
    return section


def _section_in(annotation: Any) -> type[Section] | None:
    """Return the section that a field's annotation holds."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, typing.get_args(annotation))), None)


def _shown(node: yaml.Node, path: _Path) -> str:
    """Return what the file has at `path`, for a message: short, and without secrets."""
    if isinstance(node, yaml.SequenceNode):
        return f"a list of {len(node.value)}"
    if isinstance(node, yaml.MappingNode):
        return "a section"
    text = _safe(node.value, path)
    if text == MASKED:
        return text
    text = text if len(text) <= 60 else text[:57] + "..."
    return ascii(text) if node.tag.endswith(":str") else text or "nothing"


def _plain(value: Any, path: _Path) -> str:
    """Return a value that stands in no file, for a message: short, and without secrets."""
    if not isinstance(value, int | float | str):
        return ""
    text = _safe(str(value), path)
    return (ascii(text) if isinstance(value, str) and text != MASKED else text)[:60]


def _safe(text: str, path: _Path) -> str:
    """Return a text that stands at a place of the file without what may be secret there."""
    if "@" in text or _is_secret(path):
        return MASKED
    return shown_address(text) if re.search(r":.*/|=", text) or path == ("camera", "source") else text


def _is_secret(path: _Path) -> bool:
    return any(word in str(part) for part in path for word in ("password", "token"))


def _dotted(path: _Path) -> str:
    """Return the keys on the way to a place, without what was meant as a value: `password:…` without its space."""
    return ".".join(MASKED if _is_secret(path[:depth]) else _key(str(part)) for depth, part in enumerate(path))


def _key(text: str) -> str:
    key = re.split("[:/@=?&# ]", text, maxsplit=1)[0]
    return (key if key.isprintable() and len(key) <= 60 else ascii(key[:60])) + ("…" if key != text else "")
