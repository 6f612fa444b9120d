"""One small module a command: `add_arguments(parser)` and `main(args) -> int`; what is heavy is imported in `main`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.config import ZoneSection


def thirds() -> "tuple[ZoneSection, ...]":
    """Return the zones left, centre and right, for commands that run without a configuration."""
    from edge.config import ZoneSection

    return tuple(
        ZoneSection(name=name, polygon=((i / 3, 0.0), ((i + 1) / 3, 0.0), ((i + 1) / 3, 1.0), (i / 3, 1.0)))
        for i, name in enumerate(("left", "centre", "right"))
    )
