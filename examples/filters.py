"""Filters of image processing on a grey and an RGB picture, and why networks' convolution is a correlation.

python examples/filters.py [folder]

With a folder and Pillow installed it writes one picture for each filter there.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

import gpunet as gn
from gpunet.data import filters

SIZE = 96


def grey_picture() -> gn.Tensor:
    """A disc and a ring on a slope of light, (1, H, W) in 0..1."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    radius = np.hypot(x - 0.5, y - 0.5)
    picture = 0.2 + 0.3 * x + 0.5 * (radius < 0.2) + 0.3 * (abs(radius - 0.35) < 0.03)
    return gn.tensor(picture.clip(0, 1).astype(np.float32))[None]


def rgb_picture() -> gn.Tensor:
    """The grey picture moved apart in its three channels, (3, H, W)."""
    return gn.cat([grey_picture().roll(shift, 2) for shift in (-6, 0, 6)])


def gallery() -> dict[str, gn.Tensor]:
    """The filters by name."""
    return {
        "identity": filters.identity(),
        "box": filters.box(5),
        "blur": filters.blur(),
        "gaussian": filters.gaussian(9, 2.0),
        "sharpen": filters.sharpen(),
        "sobel_x": filters.sobel("x"),
        "sobel_y": filters.sobel("y"),
        "emboss": filters.emboss(),
    }


def write(folder: Path, name: str, picture: gn.Tensor) -> None:
    """Write a picture (1 or 3, H, W) as a PNG."""
    from PIL import Image

    pixels = (picture.clamp(0, 1) * 255).round().numpy().astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(folder / f"{name}.png")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if folder is not None and importlib.util.find_spec("PIL") is None:
        print("Pillow is not installed: no pictures are written")
        folder = None
    for kind, picture in (("grey", grey_picture()), ("rgb", rgb_picture())):
        print(f"{kind}: mean {picture.mean().item():.3f}, deviation {picture.std().item():.3f}")
        for name, kernel in gallery().items():
            result = filters.apply_filter(picture, kernel)
            print(f"  {name:9s} mean {result.mean().item():+.3f}, deviation {result.std().item():.3f}")
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                write(folder, f"{kind}_{name}", result + 0.5 if name.startswith("sobel") else result)
    dot, kernel = filters.identity(5), filters.sobel("x")
    correlated = filters.apply_filter(dot, kernel, "zeros")[1:4, 1:4]
    convolved = filters.convolve(dot, kernel, "zeros")[1:4, 1:4]
    print("a dot shows the kernel flipped when correlated:", correlated.tolist() == kernel.flip((0, 1)).tolist())
    print("and as it is when convolved:", convolved.tolist() == kernel.tolist())


if __name__ == "__main__":
    main()
