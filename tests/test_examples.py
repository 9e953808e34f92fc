"""The examples run, and print what they should."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str, timeout: float = 100) -> str:
    environment = {**os.environ, "GPUNET_DEVICE": "cpu"}
    if "PYTHONPATH" in environment:
        environment["PYTHONPATH"] = os.path.abspath(environment["PYTHONPATH"])
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_lenet_learns_the_digits() -> None:
    output = run("lenet_digits.py")
    assert float(output.split()[-1]) >= 0.95


def test_backward_by_hand_agrees() -> None:
    """Rows B02, B03 and B59: the worked numbers of the notes."""
    output = run("backward_by_hand.py")
    assert "f = (x + y) z = -12" in output
    assert "backward gives -4 -4 3" in output
    assert "y  = [4.5 6.  7.5]" in output
    assert "dw by hand [2. 4. 6.] backward [2. 4. 6.]" in output
    assert "dx by hand [ 0.5  0.  -0.5  5.  -2. ] backward [ 0.5  0.  -0.5  5.  -2. ]" in output
    assert "convolution: True" in output


def test_filters_keep_the_mean(tmp_path: Path) -> None:
    """Rows B10, B11 and B29: blurs keep the mean, edges have none, and convolution flips what correlation does not."""
    output = run("filters.py", str(tmp_path / "pictures"))
    lines = {line.split()[0]: line for line in output.splitlines() if line.startswith("  ")}
    mean = output.split("mean ")[1].split(",")[0]
    for name in ("identity", "box", "blur", "gaussian"):
        assert abs(float(lines[name].split()[2].rstrip(",")) - float(mean)) < 0.02
    assert abs(float(lines["sobel_y"].split()[2].rstrip(","))) < 0.02
    assert "flipped when correlated: True" in output
    assert "as it is when convolved: True" in output
    if "Pillow is not installed" not in output:
        assert len(list((tmp_path / "pictures").glob("*.png"))) == 16


def numbers(line: str) -> list[float]:
    """All numbers of a line."""
    return [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", line)]


def test_series_are_predicted_from_their_past(tmp_path: Path) -> None:
    """Rows B07, B27 and B35 to B37."""
    lines = run("autoregressive.py", "--out", str(tmp_path)).splitlines()
    found = {line.split(":")[0].split("  ")[0]: line for line in lines}
    for name in ("least squares", "gradient descent"):
        first, second = numbers(found[name])[:2]
        assert abs(first - 0.6) < 0.02
        assert abs(second + 0.3) < 0.02
    ordered, shuffled = numbers(next(line for line in lines if line.startswith("log-probability of the series")))
    assert shuffled < ordered - 1000
    assert abs(numbers(found["a random walk"])[0] - 1) < 0.02
    shapes = {line.split("state of shape ")[1] for line in lines if line.startswith("input of")}
    assert shapes == {"(1, 1, 16)"}
    errors = {line.split(" rolled")[0].strip(): numbers(line)[-1] for line in lines if "rolled out" in line}
    assert errors["AR(1)"] > 0.5
    assert errors["AR(10)"] < errors["AR(1)"] / 2
    assert errors["latent AR"] < errors["AR(1)"] / 2
    assert "sum over all strings of length 3: 1.000000" in lines
    assert "P(X3=1 given X2=1) is 0.6000 after X1=0 and 0.6000 after X1=1" in lines
    assert "yet P(X3=1 given X1=0) = 0.1500, P(X3=1 given X1=1) = 0.4000" in lines
    ordered, shuffled = numbers(next(line for line in lines if re.match("log-probability -", line)))
    assert shuffled < ordered
    assert (tmp_path / "autoregressive.png").exists() == (importlib.util.find_spec("matplotlib") is not None)


def test_backpropagation_through_time_is_taken_apart(tmp_path: Path) -> None:
    """Rows B08, B09, B40 and B41."""
    output = run("bptt.py", "--out", str(tmp_path))
    lines = output.splitlines()
    assert "the sum is 0.151055291\nautograd: 0.151055291" in output
    for start in (
        "w = 0.9: the product of 50 Jacobians is 0.00515378, of 10 0.348678; what",
        "w = 1.1: the product of 50 Jacobians is 117.391, of 10 2.59374; what",
    ):
        line = next(line for line in lines if line.startswith(start))
        assert line.endswith("is 1 at every lag: True")
    assert "products [0.0, 0.0, 1.0, 1.0, 1.0] terms [0.0, 0.0, 0.0, 0.0, 1.0]" in output
    assert "the sum over steps is the gradient of the weight: True" in output
    rows = [line for line in lines if line.startswith("k = ")]
    off = [numbers(line.split("off by")[1])[0] for line in rows]
    assert [line.split()[2] for line in rows] == ["None:", "60:", "20:", "5:", "1:"]
    assert off[0] == 0
    assert off[1] < 1e-9
    assert 1 < off[2] < off[3] < off[4]
    assert len({line.split(",")[0].split(": ")[1] for line in rows}) == 1  # the loss is the same: the state goes on
    free, clipped = (next(line for line in lines if line.startswith(how)) for how in ("not clipped", "clipped to 1"))
    assert free.endswith("finite: False")
    assert clipped.endswith("finite: True")
    assert numbers(clipped)[-1] < 1
    pictures = {"product_against_sum.png", "gradient_trace.png"}
    drawn = importlib.util.find_spec("matplotlib") is not None
    assert {path.name for path in tmp_path.iterdir()} == (pictures if drawn else set())


def test_likelihood(tmp_path: Path) -> None:
    """Rows B14 and B44: one observation under three means, integrals, and the parameters of the highest likelihood."""
    lines = run("likelihood.py", "--out", str(tmp_path)).splitlines()
    assert [line.split("= ")[2] for line in lines[:3]] == [
        "0.05399097, log -2.91893853",
        "0.24197072, log -1.41893853",
        "0.39894228, log -0.91893853",
    ]
    assert lines[3] == "integral over x: 1.000000 1.000000 1.000000"
    assert lines[4] == "the likelihood is largest at mu = 1.000"
    areas = [float(line.split()[-1]) for line in lines[5:7]]
    assert 1.1 < areas[0] < areas[1] - 1.5  # no density of sigma: it goes on growing
    pattern = re.compile(r"mean (\d\.\d+), standard deviation (\d\.\d+)")
    pairs = [pattern.search(line) for line in lines[7:]]
    closed, first, *_, last = [[float(number) for number in pair.groups()] for pair in pairs if pair is not None]
    assert max(abs(a - b) for a, b in zip(closed, last, strict=True)) < 2e-6
    assert abs(first[0] - closed[0]) > 1
    fits = [float(line.split("likelihood ")[1].split()[0]) for line in lines[8:]]
    assert fits == sorted(fits, reverse=True)
    assert (tmp_path / "likelihood.png").exists() == (importlib.util.find_spec("matplotlib") is not None)


def test_a_mixture_density_network_keeps_answers_apart(tmp_path: Path) -> None:
    """Row B90: least squares gives the mean of three answers, the mixture all of them."""
    lines = run("mixture_density.py", "--out", str(tmp_path)).splitlines()
    squares, mixture = (float(part.split()[-1]) for part in lines[0].split(", "))
    assert mixture < squares - 0.7
    near = {line.split(":")[0]: float(line.split(", ")[1].split()[0]) for line in lines[2:5]}
    assert near["least squares"] < 0.9 < near["draws"]
    assert near["mixture's likeliest mean"] > 0.95
    assert lines[-1] == "probabilities sum to 1: True, deviations are positive: True"
    assert (tmp_path / "mixture_density.png").exists() == (importlib.util.find_spec("matplotlib") is not None)


def test_attention_finds_the_matching_key(tmp_path: Path) -> None:
    """Rows B88 and B89: the layer's facts, and an encoder whose weights show where the answer is looked for."""
    lines = run("attention.py", "--out", str(tmp_path)).splitlines()
    assert lines[0] == "parameters for 512 features: 1,050,624"
    assert lines[1] == "5 queries, 3 keys and values: output (5, 512), weights (5, 3)"
    uniform = re.findall(r"\d\.\d+", lines[2])
    assert len(uniform) == 3
    assert max(abs(float(weight) - 1 / 3) for weight in uniform) < 1e-5
    assert lines[3].endswith("there must be a value for each key, got 3 keys and 2 values")
    before, after = (
        [float(number) for number in re.findall(r"(?:accuracy|key|there) (\d\.\d+)", line)]
        for line in lines
        if "accuracy" in line
    )
    assert before[0] < 0.3
    assert before[1] < 0.3
    assert min(after[0], after[2]) > 0.95
    assert after[1] > 0.7
    assert "rows sum to 1: True" in lines
    assert (tmp_path / "attention.png").exists() == (importlib.util.find_spec("matplotlib") is not None)


# Every family of the zoo, and every form of it that the papers tell apart.
ZOO = (
    "alexnet2012_grouped",
    "alexnet2012",
    "alexnet",
    "vgg11",
    "vgg11_bn",
    "nin",
    "googlenet",
    "googlenet_paper",
    "resnet18",
    "cifar_resnet20",
    "preact_resnet18",
    "cifar_preact_resnet20",
    "densenet",
    "cifar_densenet_bc",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_learns_the_digits(name: str) -> None:
    """95 % on the test images; the example prints how long it took."""
    # Without a name it trains one alone.
    line = run("digits_zoo.py", *(() if name == "resnet18" else (name,)), timeout=600)
    assert line.startswith(name)
    assert line.count("test accuracy") == 1
    assert float(line.split("test accuracy ")[1].split(",")[0]) >= 0.95


@pytest.mark.slow
def test_a_deep_plain_network_trains_worse_than_a_residual_one(tmp_path: Path) -> None:
    """Rows B22 and B83: higher *training* loss, median of three seeds, than its residual twin's and a shallow net's."""
    lines = run("plain_vs_residual.py", "--out", str(tmp_path), timeout=900).splitlines()
    loss = {tuple(line.split()[:2]): float(line.split("training loss ")[1].split()[0]) for line in lines[:4]}
    assert loss["plain", "32"] > 2 * loss["residual", "32"]
    assert loss["plain", "32"] > 2 * loss["plain", "8"]
    table = (tmp_path / "plain_vs_residual.csv").read_text(encoding="utf-8").splitlines()
    assert table[0] == "network,layers,seed,epoch,training loss"
    assert len(table) == 1 + 2 * 2 * 3 * 3  # depths, kinds, seeds, epochs
    assert (tmp_path / "plain_vs_residual.png").exists() == (importlib.util.find_spec("matplotlib") is not None)


def test_optimization(tmp_path: Path) -> None:
    """Rows B45, B46, B49 and B53: learning rates, guessing against descending, traces, walks that never rise."""
    output = run("optimization.py", "--out", str(tmp_path))
    assert "lr 0.1: |w| = 0.1216 after" in output
    assert "lr 1.9: |w| = 0.1216 after" in output
    assert "lr 2.1: |w| = 6.727 after" in output
    accuracies = {
        line.split(",")[0]: float(line.split("test accuracy ")[1].split()[0])
        for line in output.splitlines()
        if "test accuracy" in line
    }
    assert 0.12 < accuracies["random search"] < 0.5
    assert accuracies["gradient descent"] > 0.88
    assert "Momentum    -0.1000 -0.2900 -0.4110" in output
    assert "NAG         -0.1900 -0.4610 -0.5199" in output
    assert "never rises: True" in output
    if importlib.util.find_spec("matplotlib") is not None:
        names = {"learning_rates", "loss_surface", "race", "family", "guess_or_descend"}
        assert {path.name for path in tmp_path.iterdir()} == {f"{name}.png" for name in names}


@pytest.mark.slow
@pytest.mark.features
@pytest.mark.timeout(300)
def test_features_made_by_hand_and_learnt() -> None:
    """Rows B54 to B58: rings by their radius; what each feature knows, and what it leaves out; 154 dimensions."""
    output = run("features.py", timeout=280)
    # Near chance; no line gets above two thirds, and the SVM's loss is about as low along the way to that one.
    for loss, most in (("softmax", 0.6), ("svm", 0.68)):
        assert float(output.split(f"rings, x and y, {loss}: accuracy ")[1].split()[0]) < most
        assert f"rings, radius, {loss}: accuracy 1.000" in output
    lines = [line.split() for line in output.splitlines() if line[:1].isalpha() and len(line.split()) == 4]
    found = {line[0]: (int(line[1]), float(line[2]), float(line[3])) for line in lines if line[0] != "features"}
    sizes = {"pixels": 3072, "hue": 10, "hog": 144, "hog+hue": 154, "words": 50, "learnt": 3072}
    assert {name: size for name, (size, _, _) in found.items()} == sizes
    digit, colour = ({name: values[place] for name, values in found.items()} for place in (1, 2))
    # Chance is 0.1. Shapes know no colours, colours no shapes, and both together know both, as the learnt ones do.
    assert min(digit[name] for name in ("hog", "hog+hue", "learnt")) > 0.88
    assert max(digit["hue"], colour["hog"], colour["words"]) < 0.25
    assert min(colour[name] for name in ("hue", "hog+hue", "learnt")) > 0.95
    assert digit["words"] > 0.5
    svm = next(line for line in output.splitlines() if "svm loss" in line)
    assert float(svm.split()[2]) > 0.88
    assert "155 with the bias" in svm


def test_hello_is_learned_and_drawn() -> None:
    """Row B26: trained on 'hello' to a loss of nearly 0, greedy from 'h' gives 'ello'; draws follow the softmax."""
    lines = run("hello.py").splitlines()
    loss = [float(line.split("loss ")[1].split(",")[0]) for line in lines if line.startswith("step")]
    assert loss[0] > 1.0
    assert loss[-1] < 0.01
    assert "greedy from 'h': ello; " in lines[-2]
    assert float(lines[-2].split("= ")[1]) > 0.98
    share = dict(part.split() for part in lines[-1].split(": ")[1].split("; ")[0].split(", "))
    assert abs(float(share["e"]) - 0.18) < 0.0037
    assert float(share["h"]) == 0
    assert lines[-1].endswith("the likeliest: o")


@pytest.mark.slow  # some half a minute
def test_cells_learn_to_write(tmp_path: Path) -> None:
    """Each far below what the characters' frequencies alone give, all near each other, and what that says stands there.

    At its own learning rate each reaches 2.25 to 2.45 bits; at one for all, 0.006, they lay 0.3 bits apart.
    """
    lines = run("char_rnn.py", "--out", str(tmp_path)).splitlines()
    by_frequency = float(lines[0].split(": ")[1].split()[0])
    assert 4.3 < by_frequency < 4.6
    reached = {line.split()[0]: float(line.split("weights: ")[1].split()[0]) for line in lines[1:4]}
    assert set(reached) == {"rnn", "lstm", "gru"}
    assert max(reached.values()) < 2.7
    assert max(reached.values()) - min(reached.values()) < 0.25
    apart, between_seeds = numbers(lines[4])[:2]
    assert apart == pytest.approx(max(reached.values()) - min(reached.values()), abs=2e-3)
    assert 0 < between_seeds < 0.25
    assert "no order of the cells" in lines[4]
    assert (tmp_path / "char_rnn.png").exists() == (importlib.util.find_spec("matplotlib") is not None)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_nothing_is_written_unasked(path: Path) -> None:
    """An example writes to the folder that ``--out`` names, which has no default."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    for call in calls:
        if any(isinstance(argument, ast.Constant) and argument.value == "--out" for argument in call.args):
            assert "default" not in {keyword.arg for keyword in call.keywords}
    if not any("--out" in ast.unparse(call) for call in calls) and path.name != "filters.py":  # a folder, or none
        names = {ast.unparse(call.func).rpartition(".")[2] for call in calls}
        assert not names & {"savefig", "save", "write_bytes", "write_text", "open"}


def test_every_example_is_run_here() -> None:
    names = {"lenet_digits.py", "backward_by_hand.py", "filters.py", "digits_zoo.py", "plain_vs_residual.py"}
    names |= {"autoregressive.py", "bptt.py"}
    names |= {"likelihood.py", "mixture_density.py", "attention.py"}
    names |= {"features.py", "optimization.py"}
    names |= {"hello.py", "char_rnn.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == names


if not EXAMPLES.is_dir():
    pytest.skip("the examples are not beside the tests", allow_module_level=True)
