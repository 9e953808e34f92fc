"""``gpunet sample``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice

from gpunet.backend.errors import CheckpointError
from gpunet.backend.random import Generator
from gpunet.cli.arguments import path_name, positive_integer, seed_number, usable_device
from gpunet.cli.console import EXIT_SUCCESS, RunError, UsageError, on_terminal, printable, say, say_json, say_part
from gpunet.cli.train_text import default_prompt
from gpunet.models.char_rnn import check_temperature
from gpunet.training import RunFolderError, load_language_model

DESCRIPTION = """\
Let a language model of 'gpunet train' write, character by character, each shown as soon as it is drawn.
"""
EPILOG = """\
The same seed gives the same text. Without --prompt the model begins as after the end of a line, and empty lines
that it begins with are left out. On a terminal, control characters are shown as U+FFFD; into a file or a pipe, and
with --json, goes what was drawn.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.add_argument("run", type=path_name, metavar="RUN", help="the folder that 'gpunet train --text' made")
    parser.add_argument("--prompt", metavar="TEXT", help="what the text begins with")
    parser.add_argument(
        "--temperature",
        type=temperature_number,
        default=0.8,
        metavar="T",
        help="of the draws: 1 as the model has learned, below more likely text, 0 the likeliest character each time "
        "(default: 0.8)",
    )
    parser.add_argument(
        "--length", type=positive_integer, default=500, metavar="N", help="characters to draw (default: 500)"
    )
    parser.add_argument("--seed", type=seed_number, default=0, metavar="N", help="of the draws (default: 0)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1 or auto (default: auto)")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line of stdout, nothing else")


def temperature_number(text: str) -> float:
    """0 or a finite number above it."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None
    try:
        return check_temperature(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("temperature: ")) from error


def without_first(number: int, stream: Iterator[int], most: int) -> Iterator[int]:
    """The stream without what it begins with as long as that is a certain number; of a stream of that alone, the rest.

    Args:
        number: what is left out.
        stream: without end.
        most: how many may be left out.
    """
    for drawn in islice(stream, most):
        if drawn != number:
            yield drawn
            break
    yield from stream


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    device = usable_device(arguments.device)
    try:
        model, vocabulary = load_language_model(arguments.run, device)
    except (RunFolderError, CheckpointError) as error:
        raise UsageError(str(error)) from error
    prompt = default_prompt(vocabulary)
    if arguments.prompt is not None:  # lines end as in the texts, whatever the shell makes of them
        prompt = arguments.prompt.replace("\r\n", "\n").replace("\r", "\n")
    try:
        numbers = vocabulary.encode(prompt, "argument --prompt")
    except ValueError as error:
        raise UsageError(str(error)) from error
    stream = model.stream(numbers, arguments.temperature, Generator(arguments.seed))
    end = vocabulary.characters.find("\n")
    if arguments.prompt is None and end >= 0:
        stream = without_first(end, stream, arguments.length)
    drawn: list[str] = []
    # Elsewhere, as in a file, the text is to be what was drawn.
    shown = printable if on_terminal() else str
    heard = arguments.json or say_part(shown(arguments.prompt or ""))
    try:
        for number in islice(stream, arguments.length):
            drawn.append(vocabulary.characters[number])
            if not arguments.json:
                heard = heard and say_part(shown(drawn[-1]))
            if not heard:  # nobody reads on
                return EXIT_SUCCESS
    except ValueError as error:
        # Training saves finite weights alone.
        raise RunError(
            f"the model of {arguments.run} gives scores that are not finite: its checkpoint is damaged ({error})"
        ) from error
    except KeyboardInterrupt:
        if not arguments.json:
            say()  # the message begins on a line of its own
        raise
    if arguments.json:
        say_json({
            "command": "sample",
            "run": arguments.run,
            "device": str(device),
            "prompt": arguments.prompt or "",
            "temperature": arguments.temperature,
            "seed": arguments.seed,
            "text": "".join(drawn),
        })  # fmt: skip
    else:
        say()
    return EXIT_SUCCESS
