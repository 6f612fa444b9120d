"""edge-depth: a camera daemon that sees distance."""

__version__ = "0.1.0"
