"""``gpunet models``."""

from __future__ import annotations

import argparse

from gpunet.cli.console import EXIT_SUCCESS, say, say_json
from gpunet.models import list_models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "List the models by the names that --model and gpunet.models.get_model take."
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line of stdout")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    names = list_models()
    if not arguments.json:
        for name in names:
            say(name)
    else:
        say_json({"models": names})
    return EXIT_SUCCESS
