"""``gpunet predict``."""

from __future__ import annotations

import argparse

import numpy as np

import gpunet.nn.functional as F
from gpunet.autograd import from_numpy, no_grad
from gpunet.backend.devices import Device
from gpunet.backend.errors import CheckpointError
from gpunet.backend.threads import single_threaded_blas
from gpunet.cli.arguments import path_name, positive_integer, usable_device
from gpunet.cli.console import EXIT_SUCCESS, RunError, UsageError, say, say_json
from gpunet.data import load_images
from gpunet.data.images import CROPS
from gpunet.data.info import POLARITIES
from gpunet.data.transforms import Compose, apply_steps, batched
from gpunet.nn import Module
from gpunet.training import RunFolder, RunFolderError, evaluation_transform, load_model, read_settings

DESCRIPTION = """\
Classify pictures with the model of a run. Each is made to look like what the model learned from: grey or colour,
light strokes on dark or dark on light, cropped to the drawing, and resized by areas.
"""
EPILOG = """\
For each picture the line has the most probable class and its probability. 'auto' finds a picture's polarity from its
border, and crops to the drawing where there is much room around it.
"""
BATCH_SIZE = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.add_argument("run", type=path_name, metavar="RUN", help="the folder that 'gpunet train' made")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="a PNG or JPEG file")
    parser.add_argument(
        "--polarity", default="auto", choices=("auto", *POLARITIES), help="of the pictures (default: auto)"
    )
    parser.add_argument("--crop", default="auto", choices=CROPS, help="what to cut out (default: auto)")
    parser.add_argument("--top", type=positive_integer, default=1, metavar="N", help="show the N likeliest classes (1)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1 or auto (default: auto)")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line of stdout, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    device = usable_device(arguments.device)
    try:
        folder = RunFolder.open(arguments.run)
        config, info = read_settings(folder)
        model = load_model(arguments.run, device)
    except (RunFolderError, CheckpointError) as error:
        raise UsageError(str(error)) from error
    try:
        # Resizing a picture is two small products; BLAS's own threads would only wait for each other.
        with single_threaded_blas():
            images = load_images(arguments.images, info, polarity=arguments.polarity, crop=arguments.crop)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise UsageError(str(error)) from error
    probabilities = classify(model, images, evaluation_transform(config.recipe, info, config.model), device)
    if not np.isfinite(probabilities).all():
        raise RunError(f"the model of {folder.path} gives probabilities that are not finite")

    top = min(arguments.top, info.num_classes)
    predictions = []
    for path, row in zip(arguments.images, probabilities, strict=True):
        best = [int(index) for index in np.argsort(-row, kind="stable")[:top]]
        choices = [{"class": info.classes[index], "index": index, "probability": float(row[index])} for index in best]
        predictions.append({"image": path, **choices[0], "top": choices})
        if not arguments.json:
            say(f"{path}: " + ", ".join(f"{info.classes[index]} ({row[index] * 100:.1f} %)" for index in best))
    if arguments.json:
        say_json({"command": "predict", "run": str(folder.path), "device": str(device), "predictions": predictions})
    return EXIT_SUCCESS


def classify(model: Module, images: np.ndarray, transform: Compose, device: Device) -> np.ndarray:
    """The probability of each class for each image.

    Args:
        model: in evaluation mode, on ``device``.
        images: float32 (N, C, H, W) in the data set's value range, as ``load_images`` gives them.
        transform: what was done to the images that the model was tested on.
        device: where the model is.

    Returns:
        float32 (N, classes), each row summing to 1.
    """
    steps = batched(transform) or []
    rows = []
    with no_grad():
        for start in range(0, len(images), BATCH_SIZE):
            part = images[start : start + BATCH_SIZE]
            batch = from_numpy(apply_steps(steps, part, np.empty((len(part), 0)))).to(device)
            rows.append(F.softmax(model(batch), dim=1).cpu().numpy())
    return np.concatenate(rows)
