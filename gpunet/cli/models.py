"""``gpunet models``."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

from gpunet import models
from gpunet.cli.console import EXIT_SUCCESS, say, say_json
from gpunet.inspect import summary
from gpunet.models import list_models
from gpunet.models.recipes import list_recipes

# The first words of a model's file: what it is, a colon, and authors, year and title of the paper.
CITATION = re.compile(r': ((?:(?!: ).)*? \d{4} \("[^"]+"\))')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = (
        "List the models by the names that --model and gpunet.models.get_model take, each with its parameters, its\n"
        "multiply-adds for one image of the size it is made for, and the paper it comes from."
    )
    parser.add_argument("--names", action="store_true", help="the names alone")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line of stdout")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    names = list_models()
    wide = max(map(len, names))
    sequences = list_models("sequence")
    details = []
    for name in names:
        if arguments.names:
            if not arguments.json:
                say(name)
            continue
        found = describe(name)
        details.append(found)
        if not arguments.json:
            size = "x".join(map(str, found["input"])) + (" steps" if name in sequences else "")
            say(
                f"{name:<{wide}}  {found['params']:>11,} parameters  {found['macs'] / 1e6:>8,.1f} M multiply-adds at "
                f"{size:<9}  {found['paper']}".rstrip()
            )
    if arguments.json:
        say_json({"models": names} if arguments.names else {"models": names, "details": details})
    return EXIT_SUCCESS


def describe(name: str) -> dict[str, Any]:
    """What the list tells of a model, found by building it without memory."""
    result = summary(name)
    return {
        "name": name,
        "params": result.total_params,
        "macs": result.total_macs,
        "input": list(result.input_shapes[0][1:]),
        "paper": paper(name),
        "recipes": list_recipes(name),
    }


def paper(name: str) -> str:
    """Authors, year and title, from the head of the model's file; empty where it names none."""
    factory = getattr(models, name, None)
    module = sys.modules.get(getattr(factory, "__module__", ""))
    found = CITATION.search(" ".join((getattr(module, "__doc__", None) or "").split()))
    return found.group(1) if found else ""
