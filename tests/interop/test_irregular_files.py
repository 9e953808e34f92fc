"""Paths that are no regular files are refused before they are opened; opening a named pipe would wait for ever."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

import gpunet as gn
from gpunet import models
from gpunet.interop import load_pth, load_safetensors, save_safetensors


def into_a_model(path: Any) -> None:
    models.load_weights(gn.nn.Linear(2, 2), path)


READERS = [
    gn.load,
    load_safetensors,
    load_pth,
    into_a_model,
    lambda path: gn.load(path, mmap=True),
    lambda path: models.lenet(weights=path),
]


def refuses(path: str | Path, text: str) -> None:
    for read in READERS:
        with pytest.raises(gn.CheckpointError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: is {text}, not a file of weights"


def test_pipes_devices_and_folders(tmp_path):
    os.mkfifo(tmp_path / "f")
    (tmp_path / "link").symlink_to("f")
    refuses(tmp_path / "f", "a named pipe")
    refuses(str(tmp_path / "link"), "a named pipe")
    refuses("/dev/zero", "a device")
    refuses(tmp_path, "a folder")


def test_sockets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        refuses("s", "a socket")


def test_links_to_files_and_to_nothing(tmp_path):
    layer = gn.nn.Linear(2, 2)
    save_safetensors(layer.state_dict(), tmp_path / "x")
    (tmp_path / "link").symlink_to("x")
    (tmp_path / "broken").symlink_to("y")
    assert models.load_weights(layer, tmp_path / "link").fits
    for read in READERS:
        for path in (tmp_path / "broken", tmp_path / "nothing.pth"):
            with pytest.raises(FileNotFoundError, match=path.name):
                read(path)
