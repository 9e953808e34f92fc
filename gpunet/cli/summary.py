"""``gpunet summary``."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpunet.backend.devices import device
from gpunet.cli.arguments import path_name, positive_integer
from gpunet.cli.console import EXIT_SUCCESS, RunError, UsageError, say, say_json
from gpunet.cli.model_argument import INPUT_HELP, check_sizes, model_options, sizes
from gpunet.inspect import PlotUnavailableError, explain_params, plot_architecture, summary
from gpunet.inspect.pictures import check_path
from gpunet.inspect.trace import meta_model
from gpunet.models import UnknownModelError, list_models
from gpunet.nn import Module
from gpunet.nn.init import skip_draws
from gpunet.training import RunFolder, RunFolderError, build_model, read_language_settings, read_settings
from gpunet.training.classification import model_input_size
from gpunet.training.language import build_language_model
from gpunet.training.run import LANGUAGE

DESCRIPTION = (
    "Show a model's layers: output shapes, parameters, multiply-adds, activation memory and receptive fields.\n"
    "The model runs on shapes alone; no weight is allocated."
)
EPILOG = """\
MODEL is a name that 'gpunet models' lists, or the folder of a run of 'gpunet train', whose network is shown as it was
trained; a folder of a model's name is meant by ./NAME.

columns:
  output              of one sample: channels x height x width of an image; steps x units of a sequence. A recurrent
                      layer's states come after its output
  memory              of what the layer computes, for the whole batch
  field, jump, start  receptive field, of networks on images: its pixels, from one output's to the next one's, and the
                      first pixel of the first output's, negative in the padding
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
    parser.add_argument("model", metavar="MODEL", help="one of 'gpunet models', or the folder of a run")
    parser.add_argument("--input", type=sizes, metavar="C,H,W", help=f"{INPUT_HELP} (default: 64)")
    parser.add_argument(
        "--batch", type=positive_integer, default=1, metavar="N", help="number of images or sequences (1)"
    )
    parser.add_argument(
        "--num-classes", type=positive_integer, metavar="N", help="classes (default: the model's); not for a run"
    )
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
    run_path: str | None = None
    model: Module | str
    options: dict[str, Any] = {}
    if name not in list_models() and os.path.isdir(name):
        run_path = name
        name, model, size = _of_run(arguments)
    else:
        model, options = name, model_options(name, size, arguments.num_classes)
    try:
        if isinstance(model, str) and size is not None:
            # Made here, without memory: the functions below have an input_size of their own.
            model, options = meta_model(name, **options), {}
        result = summary(model, size, arguments.batch, depth=arguments.depth, training=arguments.training, **options)
        result = replace(result, name=name)
        explained = explain_params(model, size, **options) if arguments.params else None
    except UnknownModelError as error:
        raise UsageError(f"argument MODEL: {error}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{arguments.model}: {error}") from error
    shown = result if run_path is None else replace(result, name=f"{name} of the run {run_path}")
    if arguments.html is not None:
        write_html(arguments.html, shown.to_html(), arguments.model)
    if arguments.plot is not None:
        write_picture(arguments, model, size, options)
    if arguments.json:
        document: dict[str, Any] = {"command": "summary", **result.to_dict()}
        if run_path is not None:
            document["run"] = run_path
        if explained is not None:
            document["params"] = explained.to_dict()
        say_json(document)
        return EXIT_SUCCESS
    say(str(shown))
    if explained is not None:
        say()
        say(str(explained))
    if arguments.html is not None:
        say(f"written to {arguments.html}")
    if arguments.plot is not None:
        say(f"drawn to {arguments.plot}")
    return EXIT_SUCCESS


def _of_run(arguments: argparse.Namespace) -> tuple[str, Module, tuple[int, ...] | None]:
    """The name of a run's model, the model without memory, and the size of its input; None is its own default."""
    if arguments.num_classes is not None:
        raise UsageError("argument --num-classes: is for a model by name; a run has its own")
    size: tuple[int, ...] | None = arguments.input
    try:
        folder = RunFolder.open(arguments.model)
        if folder.task == LANGUAGE:
            language, text = read_language_settings(folder)
            check_sizes(language.model, size, sequence=True)
            with device("meta"), skip_draws():
                return language.model, build_language_model(language, len(text.characters)), size
        config, info = read_settings(folder)
        check_sizes(config.model, size, sequence=False)
        with device("meta"), skip_draws():
            model = build_model(config.model, info, config.recipe)
        return config.model, model, size or model_input_size(config.model, info, config.recipe)
    except RunFolderError as error:
        raise UsageError(f"argument MODEL: {error}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"argument MODEL: {folder.config_path}: {error}") from error


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


def write_picture(
    arguments: argparse.Namespace, model: Module | str, size: tuple[int, ...] | None, options: dict[str, Any]
) -> None:
    """Draw the model, down to the same depth as the table."""
    depth = None if arguments.depth is None else max(1, arguments.depth)
    try:
        plot_architecture(
            model, arguments.plot, size, depth=depth, training=arguments.training, title=arguments.model,
            **options,
        )  # fmt: skip
    except PlotUnavailableError as error:
        raise UsageError(f"argument --plot: {error}") from error
    except OSError as error:
        raise RunError(str(error).removeprefix("path: ")) from error
