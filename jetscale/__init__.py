"""Jet networks at any scale: events in, trained networks and the figures of a search out."""

from jetscale.errors import JetscaleError
from jetscale.events import Events
from jetscale.schema import Column, Schema

__all__ = ["Column", "Events", "JetscaleError", "Schema"]
__version__ = "0.1.0"
