"""The page and the HTTP API of a running daemon, on a loopback address.

Layer 3: reads a Board, knows nothing of cameras, networks or brokers.
"""

from edge.web.app import Board, create_app
from edge.web.server import WebServer

__all__ = ["Board", "WebServer", "create_app"]
