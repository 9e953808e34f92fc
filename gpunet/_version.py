"""The version, for the build and for everything that writes it into a file."""

__version__ = "0.1.0"
