"""What a camera shows and how it is turned: what is drawn in its picture fits this view and no other."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edge.config import CameraSection

BY_ID = Path("/dev/v4l/by-id")

# As JSON has it, so that a view that was kept equals one that was not.
View = Mapping[str, Any]


def view_of(section: CameraSection, identity: str) -> View:
    """Return the view of the camera with this identity as it is configured."""
    return {"camera": identity, "size": list(section.size), "rotate": section.rotate, "flip": section.flip}


def device_identity(source: str) -> str:
    """Return the name that a V4L2 device has wherever it is plugged in; its path where it has none."""
    try:
        device = Path(source).resolve()
        names = sorted(link.name for link in BY_ID.iterdir() if link.resolve() == device)
    except OSError:
        names = []
    return f"usb {names[0]}" if names else f"device {source}"


def stream_identity(source: str) -> str:
    """Return a hash of scheme, host, port and path: user, password and query may change, and are nobody's business."""
    try:
        address = urlsplit(source)
        place = f"{address.scheme}://{address.hostname}:{address.port}{address.path}"
    except ValueError:  # such as a port that is no number
        place = source
    return f"stream {hashlib.sha256(place.encode()).hexdigest()[:16]}"


def path_identity(source: str) -> str:
    """Return where a file or folder really lies."""
    return f"path {Path(source).resolve()}"
