"""The command line: which commands there are, and what their failures look like from outside."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from gpunet._startup import end, listen
from gpunet.cli.console import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_SUCCESS,
    EXIT_USAGE,
    RunError,
    UsageError,
    close_matches,
    complain,
    flush_output,
    say,
    show_traceback_if_asked,
)


class Command(NamedTuple):
    """A command: the module that has its ``add_arguments(parser)`` and ``run(arguments)``, and what it does."""

    module: str
    help: str


COMMANDS = {
    "train": Command("gpunet.cli.train", "train a model; with no arguments, a small ResNet on handwritten digits"),
    "sample": Command("gpunet.cli.sample", "let a trained language model write"),
    "predict": Command("gpunet.cli.predict", "classify image files with a trained model"),
    "models": Command("gpunet.cli.models", "list the models"),
    "summary": Command("gpunet.cli.summary", "show a model's layers, parameters, multiply-adds and receptive fields"),
    "export": Command("gpunet.cli.export", "write a model as an ONNX or a safetensors file"),
    "info": Command("gpunet.cli.info", "show versions and devices, and why a device is not used"),
}

EPILOG = """\
exit codes:
  0    success
  1    the run began and failed (no space left, a loss that is not finite, ...)
  2    an argument or an input was found bad before the run began
  130  interrupted with Ctrl-C

Set GPUNET_DEVICE=cpu to leave a GPU alone, GPUNET_NUM_THREADS to choose the number of CPU threads,
GPUNET_DEBUG=1 to see where an error came from.
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see '{self.prog} --help')")

    def print_help(self, file: Any = None) -> None:
        """Print it the way all else is printed, so that a full disk is noticed; argparse would keep silent."""
        say(self.format_help().rstrip("\n"))


def make_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser. Only the chosen command's module is imported, so that the others cost nothing."""
    parser = Parser(
        prog="gpunet",
        description="Train convolutional and recurrent networks on a CUDA GPU or on a CPU.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)
    for name, command in COMMANDS.items():
        added = commands.add_parser(
            name,
            help=command.help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == chosen:
            importlib.import_module(command.module).add_arguments(added)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``gpunet`` command.

    Args:
        argv: the arguments after the program's name; ``sys.argv``'s where None.

    Returns:
        the exit code: 0, 1, 2 or 130 (see ``gpunet --help``), or 128 plus the number of another signal that
        ended a training run.
    """
    try:
        listen()
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except UsageError as error:
        show_traceback_if_asked()
        complain(f"error: {error}")
        return EXIT_USAGE
    except RunError as error:
        show_traceback_if_asked()
        complain(f"error: {error}")
        return EXIT_FAILURE
    except KeyboardInterrupt:
        show_traceback_if_asked()
        complain("interrupted")
        return EXIT_INTERRUPTED
    except SystemExit as error:  # argparse, after --help
        return error.code if isinstance(error.code, int) else EXIT_SUCCESS
    except MemoryError as error:
        show_traceback_if_asked()
        complain(f"error: out of memory: {error}" if str(error) else "error: out of memory")
        return EXIT_FAILURE
    except Exception as error:
        show_traceback_if_asked()
        complain(f"error: unexpected {type(error).__name__}: {error} (set GPUNET_DEBUG=1 to see where it came from)")
        return EXIT_FAILURE
    finally:
        end()
        flush_output()


def check_thread_count() -> None:
    """Refuse a ``GPUNET_NUM_THREADS`` that is no count; as a library, gpunet takes its default then."""
    value = os.environ.get("GPUNET_NUM_THREADS", "")
    if value and not (value.isdecimal() and int(value) > 0):
        raise UsageError(f"GPUNET_NUM_THREADS={value}: must be a whole number of at least 1, or unset")


def _dispatch(argv: list[str]) -> int:
    chosen = next((argument for argument in argv if not argument.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        raise UsageError(f"unknown command {chosen!r}{close_matches(chosen, COMMANDS)}")
    parser = make_parser(chosen)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        prog = "gpunet" if chosen is None else f"gpunet {chosen}"
        raise UsageError(f"unrecognized arguments: {' '.join(unknown)} (see '{prog} --help')")
    if arguments.version:
        import gpunet

        say(f"gpunet {gpunet.__version__}")
        return EXIT_SUCCESS
    if arguments.command is None:
        parser.print_help()
        return EXIT_SUCCESS
    check_thread_count()
    code: int = importlib.import_module(COMMANDS[arguments.command].module).run(arguments)
    return code
