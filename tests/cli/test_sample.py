"""``gpunet sample``: text character by character, the same for a seed, and one line where it cannot be."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunet.backend.random import Generator
from gpunet.training import load_language_model

LINE = "Größe → 카페 🙂 and\u0301 so on.\n"


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run on a line that repeats itself."""
    from gpunet.cli import main

    folder = tmp_path_factory.mktemp("writer")
    (folder / "text.txt").write_text(LINE * 100, encoding="utf-8")
    arguments = ["train", "--text", str(folder / "text.txt"), "--hidden", "24", "--layers", "1", "--embedding", "8"]
    arguments += ["--batch-size", "4", "--window", "16", "--epochs", "4", "--lr", "0.02", "--dropout", "0"]
    assert main([*arguments, "--device", "cpu", "--quiet", "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_text_is_what_the_model_draws(gpunet: Callable[..., Any], writer: Path) -> None:
    done = gpunet("sample", writer, "--prompt", "Größe", "--temperature", 0.9, "--length", 40, "--seed", 3)
    assert (done.code, done.err) == (0, "")
    model, vocabulary = load_language_model(writer)
    drawn = model.sample(40, vocabulary.encode("Größe"), 0.9, Generator(3))
    assert done.out == f"Größe{vocabulary.decode(drawn)}\n"


def test_temperature_of_zero_is_greedy(gpunet: Callable[..., Any], writer: Path) -> None:
    """It has learned the line; then every seed writes the same."""
    texts = {gpunet("sample", writer, "--temperature", "0", "--length", 60, "--seed", seed).out for seed in (0, 1)}
    assert len(texts) == 1
    assert texts.pop().startswith((LINE * 3)[:50])


def test_lines_of_a_prompt_end_as_those_of_a_text(gpunet: Callable[..., Any], writer: Path) -> None:
    texts = [
        gpunet("sample", writer, "--prompt", f"on.{end}Größe", "--length", 20, "--json").json["text"]
        for end in ("\n", "\r\n", "\r")
    ]
    assert texts[0] == texts[1] == texts[2]


def test_the_seed_decides(gpunet: Callable[..., Any], writer: Path) -> None:
    texts = [gpunet("sample", writer, "--length", 80, "--temperature", 2, "--seed", seed).out for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert gpunet("sample", writer, "--length", 80, "--temperature", 2).out == texts[0]


def test_json(gpunet: Callable[..., Any], writer: Path) -> None:
    plain = gpunet("sample", writer, "--prompt", "카페", "--length", 30).out
    done = gpunet("sample", writer, "--prompt", "카페", "--length", 30, "--json")
    assert len(done.out.splitlines()) == 1
    assert done.json == {
        "command": "sample",
        "run": str(writer),
        "device": "cpu",
        "prompt": "카페",
        "temperature": 0.8,
        "seed": 0,
        "text": plain.removeprefix("카페")[:-1],
    }


def test_without_a_prompt_a_line_begins(gpunet: Callable[..., Any], writer: Path) -> None:
    assert (
        gpunet("sample", writer, "--length", 20).out
        == gpunet("sample", writer, "--prompt", "\n", "--length", 20).out[1:]
    )
    # An empty one begins with nothing read.
    assert gpunet("sample", writer, "--prompt", "", "--length", 20).code == 0


def test_without_a_prompt_no_empty_line_begins_it(
    gpunet: Callable[..., Any], writer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many characters come as were asked for; of a model that draws nothing else, ends of lines."""
    from gpunet.models import CharRNN

    _, vocabulary = load_language_model(writer)
    end, others = vocabulary.encode("\n").tolist(), vocabulary.encode("so\non").tolist()

    def draws(numbers: list[int]) -> None:
        monkeypatch.setattr(CharRNN, "stream", lambda *arguments: itertools.cycle(numbers))

    draws(end * 2 + others)
    assert gpunet("sample", writer, "--length", 7).out == "so\non\n\n\n"
    assert gpunet("sample", writer, "--length", 7, "--json").json["text"] == "so\non\n\n"
    assert gpunet("sample", writer, "--length", 7, "--prompt", "\n").out == "\n\n\nso\non\n"
    draws(end)
    assert gpunet("sample", writer, "--length", 3).out == "\n" * 4


def test_each_character_is_shown_as_it_is_drawn(
    gpunet: Callable[..., Any], writer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flushed one by one, between the draws."""
    from gpunet.cli import sample
    from gpunet.models import draw_from_logits

    events: list[str] = []
    say_part = sample.say_part

    def draw(*arguments: Any) -> Any:
        events.append("draw")
        return draw_from_logits(*arguments)

    def show(text: str) -> bool:
        events.append(text)
        return say_part(text)

    monkeypatch.setattr(sys.modules["gpunet.models.char_rnn"], "draw_from_logits", draw)
    monkeypatch.setattr(sample, "say_part", show)
    done = gpunet("sample", writer, "--prompt", "and", "--length", 5)
    assert events[0] == "and"
    assert events[1::2] == ["draw"] * 5
    assert "".join(events[2::2]) == done.out[3:-1]


def test_control_characters_do_not_reach_a_terminal(
    gpunet: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a pipe goes what was drawn."""
    from gpunet.cli import sample

    (tmp_path / "text.txt").write_bytes(b"\x1b[2J\x07\x00" * 200)
    options = ("--hidden", 4, "--batch-size", 2, "--window", 8, "--epochs", 1, "--device", "cpu", "--quiet")
    assert gpunet("train", "--text", "text.txt", *options, "--out", "run").code == 0
    command = ("sample", "run", "--prompt", "\x1b[", "--temperature", 3, "--length", 60)
    raw = gpunet(*command).out
    assert "\x1b" in raw[2:]
    monkeypatch.setattr(sample, "on_terminal", lambda: True)
    shown = gpunet(*command).out
    assert shown == "".join("\ufffd" if one in "\x1b\x07\x00" else one for one in raw)


def test_a_console_that_cannot_show_it(start: Callable[..., subprocess.Popen[str]], writer: Path) -> None:
    process = start("sample", writer, "--prompt", "Größe →", "--length", 3, PYTHONIOENCODING="ascii")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("Gr\\xf6\\xdfe \\u2192")


def test_a_reader_that_goes_away_ends_it(start: Callable[..., subprocess.Popen[str]], writer: Path) -> None:
    process = start("sample", writer, "--length", 10**9)
    assert process.stdout is not None
    assert process.stderr is not None
    assert len(process.stdout.read(30)) == 30
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_it_in_a_line(start: Callable[..., subprocess.Popen[str]], writer: Path) -> None:
    process = start("sample", writer, "--length", 10**9)
    assert process.stdout is not None
    assert len(process.stdout.read(30)) == 30
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "gpunet: interrupted\n"
    assert out.endswith("\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk(tmp_path: Path, writer: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "gpunet", "sample", str(writer), "--length", "100000000"]
        done = subprocess.run(
            command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "gpunet: error: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--prompt", "Grüße"], "argument --prompt: unknown character 'ü' (U+00FC) at position 2; 18 characters are"),
        (["--prompt", "Große 🙂🙃"], "argument --prompt: unknown character '🙃' (U+1F643) at position 7;"),
        (["--prompt", "a\tb"], "unknown characters U+0009 control character at position 1, 'b' (U+0062) at position 2"),
        (["--prompt", "a\udcff"], "unknown character U+DCFF of a byte that is not UTF-8 at position 1"),
        (["--temperature", "-0.5"], "argument --temperature: must be 0 (the likeliest character each time) or above"),
        (["--temperature", "inf"], "argument --temperature: must be 0 (the likeliest character each time) or above"),
        (["--temperature", "nan"], "argument --temperature: must be 0 (the likeliest character each time) or above"),
        (["--temperature", "hot"], "argument --temperature: expected a number, got 'hot'"),
        (["--length", "0"], "argument --length: must be at least 1, got 0"),
        (["--seed", "-1"], "argument --seed: must lie in 0..2**63-1, got -1"),
        (["--device", "meta"], "argument --device: 'meta' holds no data"),
    ],
)
def test_bad_argument(gpunet: Callable[..., Any], writer: Path, arguments: list[str], expected: str) -> None:
    failed = gpunet("sample", writer, *arguments)
    assert failed.code == 2
    assert expected in failed.one_error()
    assert failed.out == ""


def test_runs_that_write_nothing(gpunet: Callable[..., Any], tmp_path: Path, writer: Path) -> None:
    assert "RUN" in gpunet("sample").one_error()
    assert "no run folder at nowhere" in gpunet("sample", "nowhere").one_error()
    assert gpunet("train", "--model", "lenet", "--epochs", 1, "--device", "cpu", "--out", "digits").code == 0
    failed = gpunet("sample", "digits")
    assert failed.code == 2
    assert "the run digits is one of a classifier, not of a language model; gpunet predict digits" in failed.one_error()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text((writer / "config.json").read_text())
    failed = gpunet("sample", "empty")
    assert failed.code == 2
    assert "the run empty has no checkpoint yet" in failed.one_error()
    (tmp_path / "empty" / "checkpoint.safetensors").write_bytes(b"nonsense")
    failed = gpunet("sample", "empty")
    assert failed.code == 2
    assert "checkpoint.safetensors" in failed.one_error()


def test_a_damaged_checkpoint(gpunet: Callable[..., Any], tmp_path: Path, writer: Path) -> None:
    """One bit of a weight: no other characters, but one line that names the file."""
    shutil.copytree(writer, tmp_path / "copy")
    path = tmp_path / "copy" / "checkpoint.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40
    path.write_bytes(content)
    for command in (("sample", "copy"), ("train", "--resume", "copy")):
        failed = gpunet(*command)
        assert failed.code == 2
        assert "copy/checkpoint.safetensors: damaged: it is not what was saved" in failed.one_error()
        assert failed.out == ""


def test_scores_that_are_not_finite(gpunet: Callable[..., Any], writer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunet.cli import sample

    def broken(*arguments: Any) -> Any:
        model, vocabulary = load_language_model(*arguments)
        model.decoder.bias._array[...] = np.nan
        return model, vocabulary

    monkeypatch.setattr(sample, "load_language_model", broken)
    failed = gpunet("sample", writer)
    assert failed.code == 1
    assert "gives scores that are not finite: its checkpoint is damaged" in failed.one_error()
