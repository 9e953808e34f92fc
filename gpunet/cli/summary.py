"""``gpunet summary``."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpunet.cli.arguments import path_name, positive_integer
from gpunet.cli.console import EXIT_SUCCESS, RunError, UsageError, say, say_json
from gpunet.cli.model_argument import INPUT_HELP, model_options, sizes
from gpunet.inspect import PlotUnavailableError, explain_params, plot_architecture, summary
from gpunet.inspect.pictures import check_path
from gpunet.inspect.trace import meta_model
from gpunet.models import UnknownModelError
from gpunet.nn import Module
from gpunet.training import RunFolder, RunFolderError

DESCRIPTION = (
    "Show a model's layers: output shapes, parameters, multiply-adds, activation memory and receptive fields.\n"
    "The model runs on shapes alone; no weight is allocated."
)
EPILOG = """\
columns:
  output              of one image: channels x height x width
  memory              of what the layer computes, for the whole batch
  field, jump, start  receptive field: its pixels, from one output's to the next one's, and the first pixel of the
                      first output's, negative in the padding
"""


def depth_number(text: str) -> int:
    """0, 1, 2, ..."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="one of 'gpunet models'")
    parser.add_argument("--input", type=sizes, metavar="C,H,W", help=f"{INPUT_HELP} (default: 64)")
    parser.add_argument("--batch", type=positive_integer, default=1, metavar="N", help="number of images (1)")
    parser.add_argument("--num-classes", type=positive_integer, metavar="N", help="classes (default: the model's)")
    parser.add_argument("--depth", type=depth_number, metavar="N", help="show layers down to N modules deep (all)")
    parser.add_argument("--training", action="store_true", help="training mode, in which auxiliary classifiers run too")
    parser.add_argument("--params", action="store_true", help="show where the parameters come from, as products")
    parser.add_argument("--html", type=path_name, metavar="FILE", help="write the table to FILE as HTML")
    parser.add_argument(
        "--plot", type=path_name, metavar="FILE", help="draw the layers to FILE, as .svg or .png (needs Matplotlib)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line of stdout, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    if arguments.html is not None:
        check_target(arguments.html)
    if arguments.plot is not None:
        check_picture(arguments.plot)
    name, size = arguments.model, arguments.input
    options = model_options(name, size, arguments.num_classes)
    try:
        model: Module | str = name
        if size is not None:
            # Made here, without memory: the functions below have an input_size of their own.
            model, options = meta_model(name, **options), {}
        result = summary(model, size, arguments.batch, depth=arguments.depth, training=arguments.training, **options)
        result = replace(result, name=name)
        explained = explain_params(model, size, **options) if arguments.params else None
    except UnknownModelError as error:
        if (Path(name) / "config.json").is_file():
            raise UsageError(f"argument MODEL: {name} is the folder of a run{_model_of(name)}") from error
        raise UsageError(f"argument MODEL: {error}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{name}: {error}") from error
    if arguments.html is not None:
        write_html(arguments.html, result.to_html(), arguments.model)
    if arguments.plot is not None:
        write_picture(arguments, model, options)
    if arguments.json:
        document: dict[str, Any] = {"command": "summary", **result.to_dict()}
        if explained is not None:
            document["params"] = explained.to_dict()
        say_json(document)
        return EXIT_SUCCESS
    say(str(result))
    if explained is not None:
        say()
        say(str(explained))
    if arguments.html is not None:
        say(f"written to {arguments.html}")
    if arguments.plot is not None:
        say(f"drawn to {arguments.plot}")
    return EXIT_SUCCESS


def _model_of(run: str) -> str:
    """What the model of a run is called, for the end of an error."""
    try:
        model = RunFolder.open(run).read_config().get("model")
    except (RunFolderError, OSError):
        return "; give the name of a model"
    return f"; the name of its model is {model}"


def check_target(path: str) -> None:
    """Refuse a file that cannot be written, before any work is done."""
    folder = Path(path).parent
    if Path(path).is_dir():
        raise UsageError(f"argument --html: {path} is a folder")
    if not folder.is_dir():
        raise UsageError(f"argument --html: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"argument --html: cannot write to the folder {folder}")


def write_html(path: str, table: str, title: str) -> None:
    """A page of one table."""
    page = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
    page += f'<body style="font-family:monospace">\n{table}\n</body></html>\n'
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def check_picture(path: str) -> None:
    """Refuse a picture that cannot be written, before any work is done."""
    try:
        check_path(path)
    except (ValueError, OSError) as error:
        raise UsageError(f"argument --plot: {str(error).removeprefix('path: ')}") from error


def write_picture(arguments: argparse.Namespace, model: Module | str, options: dict[str, Any]) -> None:
    """Draw the model, down to the same depth as the table."""
    depth = None if arguments.depth is None else max(1, arguments.depth)
    try:
        plot_architecture(
            model, arguments.plot, arguments.input, depth=depth, training=arguments.training, title=arguments.model,
            **options,
        )  # fmt: skip
    except PlotUnavailableError as error:
        raise UsageError(f"argument --plot: {error}") from error
    except OSError as error:
        raise RunError(str(error).removeprefix("path: ")) from error
