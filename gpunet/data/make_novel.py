"""Make pride_and_prejudice.txt.gz from the copy of the novel in the R package janeaustenr.

    python -m gpunet.data.make_novel .../janeaustenr/data [FILE]

The first argument is the folder ``data`` of an installed janeaustenr 1.0.0; Debian's package r-cran-janeaustenr puts it
in /usr/lib/R/site-library. Needs rdata (pip install rdata), no R. The text is the same on every run; the file too,
where zlib compresses alike. See PRIDE_AND_PREJUDICE.md for what the text is and whose.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import sys
import zlib
from pathlib import Path
from typing import Any

__all__ = ["main"]

# Of the text in UTF-8: a release that changed it must not go unseen.
SHA256 = "dfc684d4f857fa938268f9ab9c5567b64bd0691251eca959644adeabe6287a4d"
TITLE = "prideprejudice"
LENGTH = 4  # bytes in front of each compressed object: how long it is when it is not


def main(arguments: list[str]) -> int:
    """Write the file, next to this script if no other place is given."""
    if not arguments:
        raise SystemExit(__doc__)
    folder = Path(arguments[0])
    path = Path(arguments[1]) if len(arguments) > 1 else Path(__file__).with_name("pride_and_prejudice.txt.gz")
    index = _read(gzip.decompress((folder / "Rdata.rdx").read_bytes()))
    start, size = (int(number) for number in index["variables"][TITLE])
    packed = (folder / "Rdata.rdb").read_bytes()[start : start + size]
    lines = _read(zlib.decompress(packed[LENGTH:]))
    text = ("\n".join(map(str, lines)) + "\n").encode()
    digest = hashlib.sha256(text).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"this is not the text of janeaustenr 1.0.0: SHA-256 {digest}, expected {SHA256}")
    path.write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{path}: {len(lines)} lines, {len(text)} bytes, compressed {path.stat().st_size}")
    return 0


def _read(serialized: bytes) -> Any:
    """An R object from how R writes it."""
    parser, conversion = importlib.import_module("rdata.parser"), importlib.import_module("rdata.conversion")
    return conversion.convert(parser.parse_data(serialized, extension=".rds"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
