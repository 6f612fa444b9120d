"""Show what Home Assistant is told of this camera, or take its entities back."""

import argparse
import logging
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.config import Config
    from edge.publish.mqtt import Publisher
    from edge.topics import Topics

_PATIENCE_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_UNAVAILABLE = 69  # sysexits.h, EX_UNAVAILABLE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--config", required=True, metavar="FILE", help="the configuration")
    actions = parser.add_mutually_exclusive_group(required=True)
    actions.add_argument("--print", action="store_true", help="print each topic and its payload; no broker is needed")
    actions.add_argument("--remove", action="store_true", help="take the entities back from the broker")


def main(args: argparse.Namespace) -> int:
    """Print or remove; return 0, or 69 when the broker has not taken the removals."""
    from edge.daemon.overlay import in_force
    from edge.topics import Topics, machine_id

    config = in_force(args.config).config
    topics = Topics(config.mqtt.base_topic, config.id or machine_id())
    return _print(config, topics) if args.print else _remove(config, topics)


def _print(config: "Config", topics: "Topics") -> int:
    from edge.publish.homeassistant import discovery
    from edge.system.machine import machine_name

    for message in discovery(config, topics, calibrated=config.calibration.given, machine=machine_name()):
        print(message.topic, message.payload.decode())
    return 0


def _remove(config: "Config", topics: "Topics") -> int:
    from edge.publish.homeassistant import removal
    from edge.publish.mqtt import Visitor

    logging.getLogger().setLevel(logging.WARNING)
    messages = removal(config, topics)
    visitor = Visitor(config.mqtt, topics, "discovery")
    visitor.start()
    for message in messages:
        visitor.publish(message)
    taken = _all_taken(visitor, len(messages) + 1)
    problem = visitor.problem or "it does not acknowledge them"
    visitor.stop()
    broker = f"{config.mqtt.host}:{config.mqtt.port}"
    if not taken:
        print(f"edge-depth: the entities are not taken back by {broker}: {problem}", file=sys.stderr)
        return _UNAVAILABLE
    print(f"{broker} has taken back the entities of {topics.root} ({len(messages)} topics cleared)")
    print("a daemon that runs brings them again when it connects: set mqtt.discovery: off, and restart it")
    return 0


def _all_taken(publisher: "Publisher", count: int) -> bool:
    """Wait until `count` messages are answered, and return whether the broker has taken them all."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while publisher.published + publisher.drops < count and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return publisher.published >= count
