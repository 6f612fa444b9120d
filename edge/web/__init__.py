"""The page and the HTTP API of a running daemon.

Layer 3: reads a Board, hands uploads and changes on, knows nothing of cameras, networks or brokers.
"""

from edge.web.access import Access
from edge.web.app import create_app
from edge.web.server import WebServer
from edge.web.setup import Counter
from edge.web.uploads import Estimator, Uploads

__all__ = [
    "Access",
    "Counter",
    "Estimator",
    "Uploads",
    "WebServer",
    "create_app",
]
