"""isoflop: distributed pretraining and scaling research."""

__version__ = "0.1.0"
