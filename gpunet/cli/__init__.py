"""The ``gpunet`` command."""

from gpunet.cli.entry import main

__all__ = ["main"]
