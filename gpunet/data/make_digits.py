"""Make digits.npz from the copy of the data that scikit-learn carries.

    python -m gpunet.data.make_digits [FILE]

Needs scikit-learn. The file is the same to the byte on every run and every machine: its arrays are stored
without compression (whose output depends on the library), with the ZIP format's earliest date. See DIGITS.md
for what the data are and whose.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

from .vision import stratified_split

__all__ = ["main", "write_arrays"]

# Of the images' bytes and then the labels': a release that changed the data must not go unseen.
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
TEST_SHARE = 0.2


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz that is a function of its arrays alone."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content.getvalue())


def main(arguments: list[str]) -> int:
    """Write the file, next to this script if no other place is given."""
    path = Path(arguments[0]) if arguments else Path(__file__).with_name("digits.npz")
    source = importlib.import_module("sklearn.datasets").load_digits()
    images, labels = source.images.astype(np.uint8), source.target.astype(np.uint8)
    if not np.array_equal(images, source.images):
        raise SystemExit("scikit-learn's images are not whole numbers: this is not the data set it was")
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"scikit-learn's data have changed: SHA-256 {digest}, expected {SHA256}")
    _, test = stratified_split(labels, TEST_SHARE, np.random.default_rng(0))
    arrays = {
        "images": images,
        "labels": labels,
        "test_index": test.astype(np.uint16),
        "value_range": np.array((0, 16), np.uint8),
    }
    write_arrays(path, arrays)
    print(f"{path}: {len(images)} images, {len(test)} of them for testing, {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
