"""Parameter arithmetic: the products of the lectures, right and wrong, and output sizes with their division."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.inspect import conv_output_size, count_params, explain_output_size, explain_params, summary
from gpunet.models import list_models

# B68 to B75: product, weights and biases of each arrow.
ARROWS = {
    1: ("11*11*3*48*2", 34_848, 96),  # B68
    2: ("5*5*48*128*2", 307_200, 256),  # B69
    3: ("3*3*128*2*192*2", 884_736, 384),  # B70
    4: ("3*3*192*192*2", 663_552, 384),  # B71
    5: ("3*3*192*128*2", 442_368, 256),  # B72
    6: ("6*6*128*2*2048*2", 37_748_736, 4_096),  # B73
    7: ("2048*2*2048*2", 16_777_216, 4_096),  # B74
    8: ("2048*2*1000", 4_096_000, 1_000),  # B75
}


@pytest.mark.parametrize("name", ["alexnet2012", "alexnet2012_grouped"])
def test_the_eight_arrows(name: str) -> None:
    """B68 to B75, from the layers of the built model."""
    explained = explain_params(name)
    found = {
        arrow.number: ("*".join(map(str, arrow.factors)), arrow.weights, arrow.biases) for arrow in explained.arrows
    }
    assert found == ARROWS
    assert all(np.prod(arrow.factors) == arrow.weights for arrow in explained.arrows)
    assert explained.weights == sum(arrow.weights for arrow in explained.arrows) == 60_954_656
    assert explained.biases == sum(arrow.biases for arrow in explained.arrows) == 10_568
    assert explained.total == 60_965_224
    assert "1  image -> conv1  11*11*3*48*2 = 34,848 (+96 biases)" in str(explained)


def test_the_readings_of_arrow_6() -> None:
    """B73: 37,748,736 is right; the note drops the second tower, and the slide does not pool. B75: the sums."""
    explained = explain_params("alexnet2012")
    paper, note, slide = explained.arrows[5].readings
    assert [(one.right, one.weights) for one in (paper, note, slide)] == [
        (True, 37_748_736), (False, 88_604_672), (False, 177_209_344),
    ]  # fmt: skip
    assert (paper.factors, note.factors) == ((6, 6, 256, 4096), (13, 13, 128, 2048, 2))
    assert slide.factors == (13, 13, 128, 2, 2048, 2)
    assert paper.weights == explained.arrows[5].weights
    assert "pooled to 6x6" in paper.why
    text = str(explained)
    assert "right: 6*6*256*4096 = 37,748,736" in text
    assert "wrong: 13*13*128*2048*2 = 88,604,672" in text
    assert "111,810,592 weights, which is wrong" in text
    assert "200,415,264 weights, which is wrong" in text


def test_arrows_of_other_networks() -> None:
    assert explain_params("alexnet2012", arrows=False).arrows == ()
    assert explain_params("alexnet").arrows == ()
    with pytest.raises(ValueError, match="arrows: only the AlexNet of 2012 has them, got LeNet"):
        explain_params("lenet", arrows=True)
    small = explain_params(gn.models.alexnet2012_grouped(width=0.25, num_classes=10))
    assert small.arrows[0].factors == (11, 11, 3, 12, 2)
    assert sum(arrow.weights + arrow.biases for arrow in small.arrows) == small.total


def test_a_network_without_towers_has_no_arrows() -> None:
    options: dict[str, Any] = {"width": 1 / 8, "input_size": 67}
    with gn.device("meta"):
        two, one = (gn.models.alexnet2012_grouped(groups=groups, **options) for groups in (2, 1))
    assert len(explain_params(two).arrows) == 8
    explained = explain_params(one)
    assert explained.arrows == ()
    assert "towers" not in str(explained)
    with pytest.raises(ValueError, match="has them, got AlexNet2012Grouped without towers"):
        explain_params(one, arrows=True)


def test_a_convolution_reaches_through_all_channels() -> None:
    """B17: 3*3*3*64 = 1,728 weights and 64 biases; 3*3*64 = 576 leaves out the channels of the input."""
    row = explain_params(nn.Sequential(nn.Conv2d(3, 64, 3)))["0"]
    assert row.factors == (3, 3, 3, 64)
    assert (row.weights, row.biases, row.total) == (1728, 64, 1792)
    assert row.text == "3*3*3*64 = 1,728 (+64 biases)"
    assert count_params(nn.Conv2d(3, 64, 3, bias=False)) == 1728 != 3 * 3 * 64


def test_the_quiz() -> None:
    """B64: four 5x5 filters on a colour image have 300 weights, 304 parameters with the biases."""
    assert count_params(nn.Conv2d(3, 4, 5)) == 304
    assert count_params(nn.Conv2d(3, 4, 5, bias=False)) == 300
    assert explain_params(nn.Conv2d(3, 4, 5))["Conv2d"].text == "5*5*3*4 = 300 (+4 biases)"
    assert summary(nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU()), (3, 32, 32)).output_shape == (1, 4, 28, 28)  # B63


def test_1x1_convolutions() -> None:
    """B20: a linear combination of the channels at every pixel, not their sum. B21: 56x56x64 to 56x56x32."""
    layer = nn.Conv2d(64, 32, 1)
    result = summary(layer, (64, 56, 56))
    assert result.output_shape == (1, 32, 56, 56)
    assert result.total_macs == 6_422_528
    assert explain_params(layer)["Conv2d"].text == "1*1*64*32 = 2,048 (+32 biases)"
    gn.manual_seed(0)
    few = nn.Conv2d(5, 1, 1, bias=False)
    image = gn.randn(1, 5, 100, 100)
    combined = np.tensordot(few.weight.detach().numpy()[0, :, 0, 0], image.numpy()[0], axes=(0, 0))
    found = few(image).detach().numpy()[0, 0]
    assert np.allclose(found, combined, atol=1e-5)
    assert not np.allclose(found, image.numpy()[0].sum(0), atol=0.1)
    nn.init.ones_(few.weight)
    assert np.allclose(few(image).detach().numpy()[0, 0], image.numpy()[0].sum(0), atol=1e-4)


def test_dense_against_shared() -> None:
    """B28: 28x28 to 26x26 is 784*676 weights as a dense layer, and 9 as a convolution."""
    assert explain_params(nn.Linear(784, 676, bias=False))["Linear"].text == "784*676 = 529,984"
    assert count_params(nn.Conv2d(1, 1, 3, bias=False)) == 9


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.Conv2d(32, 32, 3, groups=32), "3*3*1*1*32 = 288 (+32 biases)"),
        (nn.Conv2d(8, 4, (3, 5), bias=False), "3*5*8*4 = 480"),
        (nn.Conv1d(2, 3, 4), "4*2*3 = 24 (+3 biases)"),
        (nn.ConvTranspose2d(8, 4, 2, groups=2), "2*2*4*2*2 = 64 (+4 biases)"),
        (nn.BatchNorm2d(7), "7 (+7 biases)"),
        (nn.Embedding(10, 3), "10*3 = 30"),
    ],
)
def test_products(layer: nn.Module, text: str) -> None:
    (row,) = explain_params(layer)
    assert row.text == text
    assert row.total == sum(p.numel() for p in layer.parameters())


def test_flattened_inputs_are_written_out() -> None:
    assert explain_params("vgg16")["classifier.0"].text == "7*7*512*4096 = 102,760,448 (+4,096 biases)"
    assert explain_params("alexnet")["classifier.1"].text == "6*6*256*4096 = 37,748,736 (+4,096 biases)"
    assert explain_params("lenet")["fc1"].factors == (5, 5, 16, 120)
    assert explain_params("resnet18")["fc"].factors == (512, 1000)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    assert explain_params(model)["1"].factors == (48, 2)
    assert explain_params(model, (3, 4, 4))["1"].factors == (4, 4, 3, 2)


@pytest.mark.parametrize("name", sorted({"densenet121", "googlenet", "resnet50", "vgg16_bn", "nin_cifar10"}))
def test_the_products_come_to_the_total(name: str) -> None:
    assert name in list_models()
    explained = explain_params(name)
    assert explained.total == count_params(name)
    assert all(np.prod(row.factors) == row.weights for row in explained)
    assert len({row.name for row in explained}) == len(explained)


def test_parameters_that_are_shared_or_uncommon() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.PReLU())
    model[1].weight = model[0].weight
    explained = explain_params(model)
    assert explained["1"].text == "those of 0"
    assert explained.total == count_params(model) == 9 + 6 + 1

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(gn.ones(2, 3))
            self.bias_of_all = nn.Parameter(gn.ones(3))

        def forward(self, x: gn.Tensor) -> gn.Tensor:
            return x @ F.relu(self.gain) + self.bias_of_all

    explained = explain_params(nn.Sequential(Own()))
    assert [row.text for row in explained] == ["2*3 = 6", "3 biases"]
    assert (explained.weights, explained.biases) == (6, 3)
    with pytest.raises(KeyError, match="Sequential has no layer 'x' with parameters"):
        explained["x"]


def test_the_model_is_only_read() -> None:
    model = gn.models.lenet()
    before = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    assert explain_params(model).total == 61_706
    assert {name: value.numpy().tobytes() for name, value in model.state_dict().items()} == before
    assert model.training


def test_json() -> None:
    explained = explain_params("alexnet2012")
    document: dict[str, Any] = json.loads(explained.to_json())
    assert document == explained.to_dict()
    assert document["total"] == 60_965_224
    assert document["arrows"][5]["readings"][0]["right"] is True
    assert explained._repr_html_().startswith("<pre>tower0.conv1")


@pytest.mark.parametrize(
    ("window", "size"),
    [((227, 11, 4, 0), 55), ((224, 11, 4, 2), 55), ((224, 7, 2, 3), 112), ((224, 11, 4, 0), 54), ((28, 3), 26)],
)
def test_output_sizes(window: tuple[int, ...], size: int) -> None:
    """B61: (i - k + 2p)/s + 1, rounded down. B32: H - K + 1."""
    assert conv_output_size(*window) == explain_output_size(*window).output == size


def test_why_54_and_a_quarter_is_54() -> None:
    """B61: AlexNet's 224 pixels without padding."""
    explained = explain_output_size(224, 11, 4)
    assert float(explained.exact) == 54.25
    # The last window begins at 53*4 = 212 and ends at 222; pixel 223 is left over.
    assert explained.unused == 224 - (53 * 4 + 11) == 1
    assert str(explained).startswith("(224 - 11 + 2*0)/4 + 1 = 54.25, rounded down to 54: ")
    assert str(explain_output_size(227, 11, 4)) == "(227 - 11 + 2*0)/4 + 1 = 55"
    with pytest.raises(ValueError, match="conv_output_size: kernel 11 is larger"):
        explain_output_size(8, 11)


def test_bad_arguments() -> None:
    with pytest.raises(gn.ShapeError, match=r"in layer fc1 \(Linear\)"):
        explain_params("lenet", (1, 20, 20))
    with pytest.raises(gn.models.UnknownModelError, match="did you mean"):
        explain_params("lenett")
    with pytest.raises(TypeError, match="model: must be a Module"):
        explain_params(3)  # type: ignore[arg-type]


def test_the_gates_of_recurrent_layers() -> None:
    """B39, B42, B43: gates * (d h + h h + h + h), with PyTorch's two biases."""
    expected = {
        "RNN": ("4*8+8*8+8+8 = 112", 96, 16),
        "GRU": ("3*(4*8+8*8+8+8) = 336", 288, 48),
        "LSTM": ("4*(4*8+8*8+8+8) = 448", 384, 64),
    }
    for kind, (text, weights, biases) in expected.items():
        for model in (getattr(nn, kind)(4, 8), getattr(nn, f"{kind}Cell")(4, 8)):
            explained = explain_params(model)
            (row,) = explained
            assert (row.text, row.weights, row.biases) == (text, weights, biases)
            assert np.prod(row.factors) == row.weights
            assert explained.total == count_params(model)
    plain = explain_params(nn.Sequential(nn.GRU(4, 8, 2, bias=False, bidirectional=True)))
    assert [(row.name, row.text) for row in plain] == [
        ("0.l0", "3*(4*8+8*8) = 288"),
        ("0.l0_reverse", "3*(4*8+8*8) = 288"),
        ("0.l1", "3*(16*8+8*8) = 576"),
        ("0.l1_reverse", "3*(16*8+8*8) = 576"),
    ]
    assert plain.to_dict()["rows"][0]["text"] == "3*(4*8+8*8) = 288"


def test_recurrent_layers_that_share_or_compute_their_weights() -> None:
    tied = nn.LSTM(4, 8)
    explained = explain_params(nn.Sequential(tied, tied))
    assert [row.text for row in explained] == ["4*(4*8+8*8+8+8) = 448", "those of 0"]
    assert explained.total == count_params(tied) == 448
    both = nn.RNN(4, 8, bidirectional=True)
    both.weight_hh_l0_reverse = both.weight_hh_l0
    assert explain_params(both).total == count_params(both) == 160
    assert explain_params(both)["weight_hh_l0_reverse"].text == "those of weight_hh_l0"
    normed = nn.utils.weight_norm(nn.GRU(4, 8), "weight_hh_l0")
    assert explain_params(normed).total == count_params(normed) == 336 + 24
