"""Features made by hand against features that are learnt: what a linear classifier can make of each.

    python examples/features.py [--out FOLDER]

First two rings of points: one threshold of the radius parts them, and no line does. A linear classifier of x and y is
right about half the time, by chance; at most two thirds are to be had, by a line that touches the inner ring and cuts a
third off the outer one. Then the bundled digits, enlarged to
32x32 pixels and drawn in one of ten colours on black, with two questions: which digit, and which colour? The digits
themselves are grey and have no hue; the colours are drawn here so that there is one. A linear classifier gets the
pixels, the hue histogram, HOG, both together, or visual words; a small convolutional network learns its features from
the pixels. What a feature leaves out, no classifier brings back: HOG knows no colours, the hue histogram no shapes.
Needs the ``features`` extra (scikit-image and scikit-learn). With ``--out`` and Matplotlib it draws the visual words
there.
"""

from __future__ import annotations

import argparse
import colorsys
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.data import Digits, features
from gpunet.utils.data import DataLoader, TensorDataset

Loss = Callable[[gn.Tensor, gn.Tensor], gn.Tensor]


def rings(count: int = 400) -> tuple[gn.Tensor, gn.Tensor]:
    """Points around a circle of radius 1 (class 0) and one of radius 2 (class 1), evenly, so that no side has more."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    radius = 1 + labels + rng.uniform(-0.2, 0.2, count)
    angle = 2 * np.pi * (np.arange(count) // 2) / (count // 2)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)
    return gn.from_numpy(points), gn.from_numpy(labels)


def linear_accuracy(
    train: tuple[gn.Tensor, gn.Tensor], test: tuple[gn.Tensor, gn.Tensor], loss: Loss = F.cross_entropy
) -> float:
    """Of a linear classifier on standardised features, after 120 steps with all of them."""
    (x, y), (u, v) = train, test
    mean, deviation = x.mean(0), x.std(0) + 1e-3
    x, u = (x - mean) / deviation, (u - mean) / deviation
    classifier = nn.Linear(x.shape[1], int(y.max().item()) + 1)
    optimizer = gn.optim.Adam(classifier.parameters(), lr=0.05, weight_decay=1e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss(classifier(x), y).backward()
        optimizer.step()
    with gn.no_grad():
        return float((classifier(u).argmax(1) == v).float().mean().item())


def coloured_digits(train: bool) -> tuple[np.ndarray, gn.Tensor, gn.Tensor]:
    """Images (N, 3, 32, 32) of digits in random colours, their digits, and the numbers of their colours."""
    digits = Digits(train)
    rng = np.random.default_rng(1 + train)
    colours = rng.integers(0, 10, len(digits))
    # The middle of each tenth of the circle of hues, more or less bright.
    rgb = np.array([colorsys.hsv_to_rgb((colour + 0.5) / 10, 1.0, rng.uniform(0.5, 1.0)) for colour in colours])
    pixels = np.kron(digits.images, np.ones((4, 4), np.float32)) * rgb[:, :, None, None]
    return pixels.astype(np.float32), gn.from_numpy(digits.labels.astype(np.int64)), gn.from_numpy(colours)


def network_accuracy(train: tuple[gn.Tensor, gn.Tensor], test: tuple[gn.Tensor, gn.Tensor], epochs: int = 4) -> float:
    """Of a convolutional network that learns from the pixels: features and classifier together."""
    model = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 4 * 4, 10),
    )  # fmt: skip
    optimizer = gn.optim.Adam(model.parameters(), lr=3e-3)
    loader = DataLoader(TensorDataset(*train), batch_size=32, shuffle=True)
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    with gn.no_grad():
        return float((model(test[0]).argmax(1) == test[1]).float().mean().item())


def main() -> int:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for a picture of the visual words")
    out = parser.parse_args().out
    gn.manual_seed(0)

    points, ring = rings()
    for name, values in (("x and y", points), ("radius", features.polar(points)[:, :1])):
        for loss_name, loss in (("softmax", F.cross_entropy), ("svm", F.multi_margin_loss)):
            accuracy = linear_accuracy((values, ring), (values, ring), loss)
            print(f"rings, {name}, {loss_name}: accuracy {accuracy:.3f}")
    print("chance is 0.5; the best of all lines, touching the inner ring, is right for two thirds")

    (images, digits, colours), (images_test, digits_test, colours_test) = (
        coloured_digits(part) for part in (True, False)
    )
    bag = features.BagOfVisualWords(k=50, patch_size=8, stride=4)
    bag.fit(images.mean(1, keepdims=True))
    vectors: dict[str, list[gn.Tensor]] = {
        "pixels": [gn.from_numpy(part.reshape(len(part), -1)) for part in (images, images_test)],
        "hue": [features.hue_histogram(part) for part in (images, images_test)],
        "hog": [features.hog(part) for part in (images, images_test)],
    }
    vectors["hog+hue"] = [gn.cat(parts, 1) for parts in zip(vectors["hog"], vectors["hue"], strict=True)]
    vectors["words"] = [bag.transform(part.mean(1, keepdims=True)) for part in (images, images_test)]
    print("features   dims  digit  colour")
    for name, (x, x_test) in vectors.items():
        digit, colour = (
            linear_accuracy((x, labels), (x_test, labels_test))
            for labels, labels_test in ((digits, digits_test), (colours, colours_test))
        )
        print(f"{name:9s} {x.shape[1]:5d}  {digit:.3f}  {colour:.3f}", flush=True)
        if name == "hog+hue":
            svm = linear_accuracy((x, digits), (x_test, digits_test), F.multi_margin_loss)
            print(f"{name:9s} {x.shape[1]:5d}  {svm:.3f}  with the svm loss; {x.shape[1] + 1} with the bias")
    tensors, tensors_test = gn.from_numpy(images), gn.from_numpy(images_test)
    digit, colour = (
        network_accuracy((tensors, labels), (tensors_test, labels_test))
        for labels, labels_test in ((digits, digits_test), (colours, colours_test))
    )
    print(f"{'learnt':9s} {3 * 32 * 32:5d}  {digit:.3f}  {colour:.3f}")
    if out is not None and importlib.util.find_spec("matplotlib") is not None:
        out.mkdir(parents=True, exist_ok=True)
        gn.inspect.plot_filters(bag.words, out / "words.png", title="visual words")
    return 0


if __name__ == "__main__":
    sys.exit(main())
