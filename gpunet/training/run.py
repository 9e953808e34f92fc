"""The folder of a run: what was asked for, how it went, and where it stands.

==========================  ==================================================================
``config.json``             the settings of the run, written before the first batch
``metrics.csv``             one line per finished epoch
``checkpoint.safetensors``  the whole state of the run (see :mod:`gpunet.training.checkpoint`)
``curve.png``               loss and accuracy over the epochs, where Matplotlib is installed
``.lock``                   held by the process that trains in the folder
==========================  ==================================================================
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

CONFIG_FORMAT = 1
METRIC_COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "learning_rate",
    "seconds",
)
LANGUAGE = "language"
# What a task's runs write: a classifier's, which have no "task" in their config.json, what stands above.
_COLUMNS = {
    LANGUAGE: (
        *METRIC_COLUMNS[:-2],
        "train_bits_per_character",
        "test_bits_per_character",
        "test_perplexity",
        *METRIC_COLUMNS[-2:],
    )
}


class RunFolderError(RuntimeError):
    """A run folder cannot be made, is not one, holds nonsense, or is in use."""


def write_file_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` so that a reader finds the old file or the new one, never a part.

    The bytes go to a neighbour file, are flushed to the disk, and the neighbour is renamed; then the folder is
    flushed too, so that the rename survives a power cut. When anything fails the old file is still there.

    Raises:
        OSError: the disk is full, the folder is read-only, ...
    """
    # A fixed name: what a killed process left behind is overwritten by the next save instead of piling up.
    neighbour = path.with_name(f".{path.name}.partial")
    try:
        with open(neighbour, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(neighbour, path)
    except BaseException:
        with contextlib.suppress(OSError):
            neighbour.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return  # folders cannot be opened there; NTFS journals the rename
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RunFolder:
    """A run folder on disk. Make one with :meth:`create`, open one with :meth:`open`.

    Attributes:
        path: the folder.
        task: ``"classification"``, or ``"language"`` for a language model.
    """

    def __init__(self, path: Path, task: str = "classification") -> None:
        self.path = path
        self.task = task
        self._let_go: Callable[[], Any] | None = None

    config_path = property(lambda self: self.path / "config.json")
    metrics_path = property(lambda self: self.path / "metrics.csv")
    checkpoint_path = property(lambda self: self.path / "checkpoint.safetensors")
    curve_path = property(lambda self: self.path / "curve.png")
    lock_path = property(lambda self: self.path / ".lock")

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    # ----------------------------------------------------------------------------------------- making and opening

    @classmethod
    def create(cls, path: str | PathLike[str], config: Mapping[str, Any]) -> RunFolder:
        """Make the folder (and its parents), take its lock, and write ``config.json`` and the head of ``metrics.csv``.

        Raises:
            RunFolderError: there is something at ``path`` already, or it cannot be written to.
        """
        folder = cls(Path(path), str(config.get("task", "classification")))
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder._refuse_other_content()  # before a lock file is put among somebody's files
            folder.lock()
            folder._refuse_other_content()  # another process may have been quicker
            folder.write_config(config)
            folder.rewrite_metrics([])
        except FileExistsError as error:
            folder.unlock()
            raise RunFolderError(f"cannot write to the folder {folder.path}: it is a file") from error
        except OSError as error:
            folder.unlock()
            raise RunFolderError(f"cannot write to the folder {folder.path}: {describe_os_error(error)}") from error
        except BaseException:
            folder.unlock()
            raise
        return folder

    def _refuse_other_content(self) -> None:
        if any(entry.name != self.lock_path.name for entry in self.path.iterdir()):
            raise RunFolderError(
                f"the folder {self.path} is not empty: choose another one, or resume the run in it if it holds one"
            )

    @classmethod
    def create_numbered(cls, parent: str | PathLike[str], name: str, config: Mapping[str, Any]) -> RunFolder:
        """Make a folder of its own in ``parent``: ``name``, the time, and a number where that is taken."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        parent = Path(parent)
        for number in range(1, 1000):
            path = parent / (f"{name}-{stamp}" if number == 1 else f"{name}-{stamp}-{number}")
            try:
                parent.mkdir(parents=True, exist_ok=True)
                path.mkdir()  # fails where another process was first, so no two runs share a folder
            except FileExistsError:
                if not parent.is_dir():
                    raise RunFolderError(f"cannot write to the folder {parent}: it is a file") from None
                continue
            except OSError as error:
                raise RunFolderError(f"cannot write to the folder {parent}: {describe_os_error(error)}") from error
            return cls.create(path, config)
        raise RunFolderError(f"cannot find a free name for a run in {parent}")

    @classmethod
    def open(cls, path: str | PathLike[str]) -> RunFolder:
        """The run folder at ``path``, found to be one.

        Raises:
            RunFolderError: there is no folder at ``path``, or no ``config.json`` that gpunet wrote in it.
        """
        folder = cls(Path(path))
        if not folder.path.exists():
            raise RunFolderError(f"no run folder at {folder.path}: there is nothing there")
        if not folder.path.is_dir():
            raise RunFolderError(f"{folder.path} is not a run folder: it is a file")
        if not folder.config_path.is_file():
            raise RunFolderError(f"{folder.path} is not a run folder: it holds no config.json")
        folder.task = str(folder.read_config().get("task", "classification"))
        return folder

    # ------------------------------------------------------------------------------------------------------ config

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the settings of the run, atomically."""
        document = {"format": CONFIG_FORMAT, **config}
        write_file_atomically(self.config_path, (json.dumps(document, indent=2) + "\n").encode())

    def read_config(self) -> dict[str, Any]:
        """The settings of the run.

        Raises:
            RunFolderError: the file cannot be read, is not JSON, or was written by a newer gpunet.
        """
        try:
            config = json.loads(self.config_path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RunFolderError(f"cannot read {self.config_path}: {describe_os_error(error)}") from error
        except (ValueError, RecursionError) as error:
            raise RunFolderError(f"{self.config_path} is not valid JSON: {error}") from error
        version = config.get("format") if isinstance(config, dict) else None
        if not isinstance(version, int) or isinstance(version, bool):
            raise RunFolderError(f"{self.path} is not a run folder: its config.json was not written by gpunet")
        if version > CONFIG_FORMAT:
            raise RunFolderError(f"{self.config_path} has format {version}, this gpunet reads up to {CONFIG_FORMAT}")
        return dict(config)

    # ----------------------------------------------------------------------------------------------------- metrics

    def append_metrics(self, row: Mapping[str, float]) -> None:
        """Add one finished epoch to ``metrics.csv``."""
        with open(self.metrics_path, "a", encoding="utf-8", newline="") as file:
            file.write(self._csv_lines([row]))

    def rewrite_metrics(self, history: Sequence[Mapping[str, float]]) -> None:
        """Make ``metrics.csv`` say what the checkpoint says: a killed run may have written a line more, or half."""
        header = ",".join(self._columns) + "\n"
        write_file_atomically(self.metrics_path, (header + self._csv_lines(history)).encode())

    @property
    def _columns(self) -> Sequence[str]:
        return _COLUMNS.get(self.task, METRIC_COLUMNS)

    def _csv_lines(self, history: Sequence[Mapping[str, float]]) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writerows(history)
        return text.getvalue()

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows of ``metrics.csv``; empty fields are left out."""
        with open(self.metrics_path, encoding="utf-8", newline="") as file:
            return [
                {key: float(value) for key, value in row.items() if value not in (None, "")}
                for row in csv.DictReader(file)
            ]

    # -------------------------------------------------------------------------------------------------------- lock

    def lock(self) -> None:
        """Say that this process trains here, until :meth:`unlock` or its end, however it ends.

        Raises:
            RunFolderError: another process does.
            OSError: the lock file cannot be written.
        """
        if self._let_go is not None:
            return
        descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _try_lock(descriptor):
                raise RunFolderError(f"the run {self.path} is being trained by another process (its .lock is held)")
        except BaseException:
            os.close(descriptor)
            raise
        # Closing releases it, also where the folder is simply dropped.
        self._let_go = weakref.finalize(self, os.close, descriptor)

    def unlock(self) -> None:
        """Give the lock back; harmless where it is not held."""
        if self._let_go is not None:
            # The file stays: removing it would race with a process that just opened it.
            self._let_go()
            self._let_go = None

    def remove_leftovers(self) -> None:
        """Delete the half-written neighbours that a killed process left. The lock must be held."""
        for entry in self.path.glob(".*"):
            if entry.name.endswith((".partial", ".tmp")):
                entry.unlink(missing_ok=True)

    def __enter__(self) -> RunFolder:
        self.lock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unlock()


def _try_lock(descriptor: int) -> bool:
    """Lock a file for this process alone; False where another has it. The system lets go when the process ends."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import errno
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            return True  # a file system without locks, as some network ones are: training there is still possible
        raise
    return True


def describe_os_error(error: OSError) -> str:
    """The system's own words for an error, without the number and the file."""
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
