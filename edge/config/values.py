"""The values that keys of the configuration may hold, each with the words that a wrong one is answered with."""

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from edge.records import Polygon
from edge.topics import ID

MASKED = "********"
STREAM = re.compile(r"(rtsps?|https?)://", re.IGNORECASE)


def within(low: float, high: float) -> AfterValidator:
    """Return a validator of `low..high`; pydantic's own limits would name only the one that was passed."""

    def check(value: float) -> float:
        if not low <= value <= high:
            raise ValueError(f"must be {low:g}..{high:g}")
        return value

    return AfterValidator(check)


def _is_id(text: str) -> str:
    if not ID.fullmatch(text):
        raise ValueError("must be lower-case letters, digits and single hyphens, such as front-door")
    return text


def _with_small_scheme(source: str) -> str:
    """Return a stream's address as OpenCV takes it: it knows rtsp://, but not RTSP://."""
    scheme = STREAM.match(source)
    return scheme[0].lower() + source[scheme.end() :] if scheme else source


def _is_polygon(points: Polygon) -> Polygon:
    if len(points) < 3:
        raise ValueError("must have 3 points at least")
    if any(not 0.0 <= value <= 1.0 for point in points for value in point):
        raise ValueError("must hold fractions of the frame, 0..1, x from the left and y from the top")
    following = points[1:] + points[:1]
    area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, following, strict=True)) / 2
    if abs(area) < 1e-6:
        raise ValueError("must enclose an area; its points lie on one line")
    return points


def _has_some(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if not numbers:
        raise ValueError("must name one at least")
    return numbers


def _is_network_size(pixels: int) -> int:
    if pixels % 32:
        raise ValueError("must be a multiple of 32")
    return pixels


def _is_host(host: str) -> str:
    if not re.fullmatch(r"[^\s/:@]+", host) and not _is_address(host):
        raise ValueError("must be a host name or an address alone, such as localhost; the port has its own key")
    return host


def _is_base_topic(topic: str) -> str:
    if not re.fullmatch(r"[^/+#$\s][^/+#\s]*(/[^/+#\s]+)*", topic) or not topic.isprintable():
        raise ValueError("must be topic levels joined by single slashes, without + # $ or spaces")
    return topic


def _off_is_text(value: Any) -> Any:
    return "off" if value is False else value  # YAML reads the word off as false


def _is_listen(address: str) -> str:
    host, port = split_address(address)
    if host != "localhost" and not _is_address(host):
        raise ValueError("must be an address of this machine, such as 127.0.0.1:8080, or 0.0.0.0:8080 for all of them")
    if port > 65535:
        raise ValueError("must be host:port with a port 0..65535")
    return address


def is_token(token: str) -> str:
    """Return a token that is hard to guess and easy to send.

    Raises:
        ValueError: it is not.
    """
    if not re.fullmatch(r"[!-~]{16,200}", token):
        raise ValueError("must have 16 to 200 plain characters without spaces; `openssl rand -hex 16` makes some")
    return token


def _is_host_alone(host: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", host):
        raise ValueError("must be a host name alone in small letters, such as pi.fritz.box; the port is that of listen")
    return host


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def split_address(address: str) -> tuple[str, int]:
    """Return the host and the port of `host:port` or `[ipv6]:port`.

    Raises:
        ValueError: it is no such address.
    """
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([^:\s]+)):([0-9]{1,5})", address)
    if not match:
        raise ValueError("must be host:port, such as 127.0.0.1:8080")
    return match[1] or match[2], int(match[3])


Text = Annotated[str, Field(min_length=1)]
CameraSource = Annotated[Text, AfterValidator(_with_small_scheme)]
Id = Annotated[str, AfterValidator(_is_id)]
Area = Annotated[tuple[tuple[float, float], ...], AfterValidator(_is_polygon)]
Seconds = Annotated[float, within(0, 86400)]
Fraction = Annotated[float, within(0, 1)]
Side = Annotated[int, within(16, 8192)]
NetworkSize = Annotated[int, within(64, 512), AfterValidator(_is_network_size)]
Processors = Annotated[tuple[Annotated[int, within(0, 1023)], ...], AfterValidator(_has_some)]
Host = Annotated[Text, AfterValidator(_is_host)]
HostName = Annotated[str, AfterValidator(_is_host_alone)]
BaseTopic = Annotated[str, AfterValidator(_is_base_topic)]
Discovery = Annotated[Literal["device", "single", "off"], BeforeValidator(_off_is_text)]
Listen = Annotated[str, AfterValidator(_is_listen)]
Token = Annotated[str, AfterValidator(is_token)]


def is_loopback(address: str) -> bool:
    """Return whether `host:port` is for this machine alone."""
    return is_this_machine(split_address(address)[0])


def is_this_machine(host: str) -> bool:
    """Return whether a host's name or address leads to no other machine."""
    return host.lower() == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


# What may stand in camera.source and is no address: a path, a file here, picamera2:1.
_LOCAL = re.compile(r"(?!.*:/.*@)(?:/(?!/)|\.\.?/|~/).*|[\w .-]+(?::\d{1,5})?|[\w -]+(?:/[\w .-]*)+", re.DOTALL)
_HOST = r"(?:[\w.-]+|\[[0-9a-f:.]+(?:%[\w.-]+)?\])(?::\d{1,5})?"
_PLAIN = re.compile(rf"([a-z][a-z0-9+.-]*://)(?:[^\s@/?#\\]*@)?({_HOST})(?:[/?#][^\s@]*)?", re.IGNORECASE)
_KNOWN_SCHEME = re.compile(r"\s*(rtsps?|rtmps?|https?|wss?|mqtts?|tcp|udp|ftps?|file):", re.IGNORECASE)


def shown_address(source: str) -> str:
    """Return of an address only what can be no secret, its scheme, host and port; a path as it is.

    Cheap recorders take the password in the path, others in the query. Where an address is not plain, or has an @
    behind its host, what stands where the host should may be a part of the password: it is its scheme alone then.
    """
    if _LOCAL.fullmatch(source):
        return source
    if plain := _PLAIN.fullmatch(source):
        return plain[1] + plain[2]
    scheme = _KNOWN_SCHEME.match(source)
    return f"{scheme[1]}://…" if scheme else MASKED
