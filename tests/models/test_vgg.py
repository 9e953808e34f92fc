"""VGG: the facts, the paper's arithmetic, and torchvision's."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet as gn
from gpunet import models, nn
from gpunet.inspect import receptive_field

from .beside_torchvision import compare, randomise, torchvision_models
from .counting import count, fact, fact_input, golden, rows, run, shape_of

TORCHVISION = ["vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"]
# Names in the facts, and ours.
NAMES = {name: name for name in TORCHVISION} | {
    "vgg_A": "vgg11", "vgg_A-LRN": "vgg11_lrn", "vgg_B": "vgg13",
    "vgg_C": "vgg16_c", "vgg_D": "vgg16", "vgg_E": "vgg19",
}  # fmt: skip
IMAGE = (3, 224, 224)


def on_meta(name: str, **options: object) -> nn.Module:
    with gn.device("meta"):
        return models.get_model(name, **options)


@pytest.mark.parametrize("name", NAMES)
def test_totals(name):
    assert count(on_meta(NAMES[name]), fact_input(name)) == fact(name)


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19", "vgg_C"])
def test_layers(name):
    expected = [
        (row["type"], shape_of(row["output"]), int(row["params"]), int(row["macs"]))
        for row in rows("layers")
        if row["model"] == name
    ]
    layers = run(on_meta(NAMES[name]), IMAGE)
    kinds = {"Conv2d", "MaxPool2d", "Linear"} | {kind for kind, *_ in expected}
    assert [(each.type, each.output, each.params, each.macs) for each in layers if each.type in kinds] == [
        row for row in expected if row[0] in kinds
    ]
    assert len(expected) >= 17
    if name != "vgg_C":  # whose facts number the head otherwise
        paths = [row["layer"] for row in rows("layers") if row["model"] == name]
        assert [each.path for each in layers if each.type in kinds] == paths


CONVOLUTIONS = {
    "vgg11": (0, 3, 6, 8, 11, 13, 16, 18),
    "vgg13": (0, 2, 5, 7, 10, 12, 15, 17, 20, 22),
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}
NORMALISED = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_keys_of_the_state(name):
    expected = [f"features.{place}.{kind}" for place in CONVOLUTIONS[name] for kind in ("weight", "bias")]
    expected += [f"classifier.{place}.{kind}" for place in (0, 3, 6) for kind in ("weight", "bias")]
    assert list(on_meta(name).state_dict()) == expected


def test_keys_of_the_state_with_batch_norm():
    expected = []
    for place in (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40):
        expected += [f"features.{place}.weight", f"features.{place}.bias"]
        expected += [f"features.{place + 1}.{kind}" for kind in NORMALISED]
    expected += [f"classifier.{place}.{kind}" for place in (0, 3, 6) for kind in ("weight", "bias")]
    state = on_meta("vgg16_bn").state_dict()
    assert list(state) == expected
    assert state["features.1.num_batches_tracked"].shape == ()
    assert state["features.1.num_batches_tracked"].dtype == np.int64


def test_the_first_convolution():
    """B17: fw * fh * C_in * C_out weights, and a bias for each kernel."""
    first = on_meta("vgg16").features[0]
    assert first.weight.numel() == 3 * 3 * 3 * 64 == 1_728
    assert first.weight.numel() + first.bias.numel() == 1_792


def test_activations_stored():
    """B18: the input and the outputs of convolutions, poolings and dense layers of VGG16."""
    stored = [each for each in run(on_meta("vgg16"), IMAGE) if each.type in ("Conv2d", "MaxPool2d", "Linear")]
    floats = int(np.prod(IMAGE)) + sum(int(np.prod(each.output)) for each in stored)
    assert floats == golden()["vgg16_activation_floats_input_conv_pool_fc"] == 15_237_608
    assert fact("vgg16").params == 138_357_544


def test_share_of_the_dense_layers():
    """B65: of VGG16 89.4 % of all parameters."""
    net = on_meta("vgg16")
    dense = sum(parameter.numel() for parameter in net.classifier.parameters())
    assert dense == 123_642_856
    assert round(100 * dense / sum(parameter.numel() for parameter in net.parameters()), 1) == 89.4


def stack(*sizes: int, channels: int = 128) -> nn.Sequential:
    """Convolutions that keep the image's size, without biases."""
    return nn.Sequential(*[nn.Conv2d(channels, channels, size, padding=size // 2, bias=False) for size in sizes])


def reach(net: nn.Module, channels: int) -> int:
    """The side of the window that one output depends on, found from its gradient."""
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    x = gn.zeros(1, channels, 21, 21, requires_grad=True)
    net(x)[0, 0, 10, 10].backward()
    seen = np.argwhere(x.grad.numpy()[0, 0])
    return int(seen.max() - seen.min()) + 1


@pytest.mark.parametrize("number, side", [(1, 3), (2, 5), (3, 7)])
def test_receptive_field_of_3x3_convolutions(number, side):
    """B19: three 3x3 convolutions see 7x7 pixels."""
    net = stack(*[3] * number, channels=2)
    assert reach(net, 2) == side
    assert list(receptive_field(net, (2, 21, 21)).values())[-1].size == (side, side)


def test_small_kernels_are_cheaper():
    """B80: two 3x3 convolutions against one of 5x5, three against one of 7x7, at 128 channels."""
    weights = {sizes: sum(p.numel() for p in stack(*sizes).parameters()) for sizes in ((3, 3), (5,), (3, 3, 3), (7,))}
    assert weights == {(3, 3): 294_912, (5,): 409_600, (3, 3, 3): 442_368, (7,): 802_816}
    assert weights[3, 3] / weights[5,] == 0.72
    assert reach(stack(3, 3, channels=2), 2) == reach(stack(5, channels=2), 2) == 5


def test_a_1x1_convolution_is_a_linear_map_of_the_channels():
    """B20: at every pixel, as of a 100x100x5 image. A sum of the channels only where all weights are 1."""
    conv = nn.Conv2d(5, 4, 1, bias=False)
    x = gn.randn(1, 5, 100, 100)
    weight = conv.weight.detach().numpy()[:, :, 0, 0]
    y = conv(x).detach().numpy()
    np.testing.assert_allclose(y[0], np.tensordot(weight, x.numpy()[0], 1), rtol=1e-4, atol=1e-5)
    total = x.numpy().sum(1)[0]
    assert not np.allclose(y[0, 0], total)
    nn.init.ones_(conv.weight)
    np.testing.assert_allclose(conv(x).detach().numpy()[0, 0], total, rtol=1e-4, atol=1e-5)


def test_1x1_convolutions_keep_the_size_and_cut_the_channels():
    """B21, B76: 56x56x64 by 32 kernels of 1x1."""
    with gn.device("meta"):
        net = nn.Sequential(nn.Conv2d(64, 32, 1))
    *_, layer = run(net, (64, 56, 56))
    assert (layer.output, layer.params, layer.macs) == ((32, 56, 56), 2_048 + 32, 6_422_528)


def test_net_c_sees_with_1x1_in_its_last_three_blocks():
    sizes = [layer.kernel_size[0] for layer in on_meta("vgg16_c").features if isinstance(layer, nn.Conv2d)]
    assert sizes == [3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 3, 3, 1]


def test_local_response_normalisation():
    """B78: net A-LRN normalises as Krizhevsky et al. do; both conventions on channels 10, 20, ..., 80 at a pixel."""
    norm = models.vgg11_lrn(width=1 / 64).features[2]
    x = gn.tensor(np.arange(10.0, 90.0, 10.0).reshape(1, 8, 1, 1), dtype=gn.float64)
    paper, divided = (
        golden()["lrn"][key] for key in ("paper_k2_n5_alpha1e-4_beta.75", "alpha_over_n_k2 (torch/cuda-convnet2)")
    )
    np.testing.assert_allclose(norm(x).numpy().ravel(), paper, rtol=1e-6)
    np.testing.assert_allclose(nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)(x).numpy().ravel(), divided, rtol=1e-6)
    np.testing.assert_allclose(nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)(x).numpy().ravel(), paper, rtol=1e-6)


def test_arguments_shape_the_network():
    narrow = models.vgg13(num_classes=7, dropout=0.25, in_channels=1, width=1 / 32).eval()
    assert narrow(gn.randn(2, 1, 32, 47)).shape == (2, 7)
    assert [layer.p for layer in narrow.modules() if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
    own = models.VGG([(4,), (8, (6, 1))], num_classes=2, width=1)
    assert [layer.out_channels for layer in own.features if isinstance(layer, nn.Conv2d)] == [4, 8, 6]


def check_normal(layer: nn.Module, std: float) -> None:
    weight = layer.weight.detach().numpy()
    assert weight.std() == pytest.approx(std, rel=6 / np.sqrt(2 * weight.size))
    assert abs(weight.mean()) < 6 * std / np.sqrt(weight.size)
    assert not layer.bias.detach().numpy().any()


def test_initial_weights():
    for layer in models.vgg11_bn(width=1 / 8).modules():
        if isinstance(layer, nn.Conv2d):
            check_normal(layer, np.sqrt(2 / (layer.out_channels * 9)))
        elif isinstance(layer, nn.Linear):
            check_normal(layer, 0.01)
        elif isinstance(layer, nn.BatchNorm2d):
            assert set(layer.weight.detach().numpy()) == {1.0}
            assert not layer.bias.detach().numpy().any()
    for name in ("vgg11_lrn", "vgg16_c"):
        for layer in models.get_model(name, width=1 / 8).modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                check_normal(layer, 0.1)
    default = models.vgg11(width=1 / 8, init_weights=False)
    assert default.classifier[6].bias.detach().numpy().any()


def test_deeper_nets_start_from_net_a():
    a, e = models.vgg11(width=1 / 16), models.vgg19(width=1 / 16)
    before = {key: value.numpy().copy() for key, value in e.state_dict().items()}
    assert models.start_from_a(e, a) is e
    after, source = e.state_dict(), a.state_dict()
    places = {"features.0": "features.0", "features.5": "features.3", "features.10": "features.6"}
    places |= {"features.12": "features.8"} | {f"classifier.{i}": f"classifier.{i}" for i in (0, 3, 6)}
    for key, value in after.items():
        place, _, kind = key.rpartition(".")
        expected = source[f"{places[place]}.{kind}"].numpy() if place in places else before[key]
        np.testing.assert_array_equal(value.numpy(), expected, err_msg=key)
    with pytest.raises(ValueError, match="start_from_a: a layer of shape"):
        models.start_from_a(models.vgg19(width=1 / 32), a)


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg11_lrn", "vgg13", "vgg16_c", "vgg19"])
def test_gradients(name):
    net = models.get_model(name, num_classes=3, width=1 / 32, init="torchvision", dropout=0.0).double()
    x = gn.randn(2, 3, 64, 64, dtype=gn.float64, requires_grad=True)
    assert gn.autograd.gradcheck(net, x, parameters=list(net.parameters()), fast_mode=True)


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"num_classes": 0}, ValueError, "VGG: num_classes must be at least 1, got 0"),
        ({"num_classes": True}, TypeError, "VGG: num_classes must be an integer, got True"),
        ({"dropout": -0.1}, ValueError, "VGG: dropout must be between 0 and 1, got -0.1"),
        ({"dropout": float("nan")}, ValueError, "VGG: dropout must be between 0 and 1, got nan"),
        ({"in_channels": 0}, ValueError, "VGG: in_channels must be at least 1, got 0"),
        ({"width": -1}, ValueError, "VGG: width must be positive, got -1"),
        ({"init_weights": 1}, TypeError, "VGG: init_weights must be True or False, got 1"),
        ({"init": "he"}, ValueError, "init: must be 'torchvision' or 'paper', got 'he'"),
    ],
)
def test_refusals(arguments, error, text):
    with pytest.raises(error, match=text):
        models.vgg16(**arguments)


def test_an_unknown_configuration():
    with pytest.raises(ValueError, match="VGG: configuration must be one of A, A-LRN, B, C, D, E, got 'F'"):
        models.VGG("F")


def test_an_image_too_small():
    with pytest.raises(gn.ShapeError, match=r"has \(1\).*in layer features.30 \(MaxPool2d\)"):
        on_meta("vgg16")(gn.empty(1, 3, 31, 224, device="meta"))


NORMALISED_LAYER = ["Conv2d", "BatchNorm2d"]
LETTERS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}


def before_norms(net: nn.Module) -> list[str]:
    """The biases of the convolutions that BatchNorm follows, which it subtracts again."""
    kinds = [type(layer).__name__ for layer in net.features] + [""]
    return [f"features.{place}.bias" for place in range(len(kinds)) if kinds[place : place + 2] == NORMALISED_LAYER]


@pytest.mark.parity
@pytest.mark.parametrize("name", TORCHVISION)
def test_it_agrees_with_torchvision_at_reduced_width(name):
    import torch

    theirs_of = torchvision_models().vgg
    number, _, norm = name.partition("_")
    with torch.device("meta"):
        theirs = theirs_of.vgg11(num_classes=10)  # for its forward alone: all layers are replaced
    widths = [entry if entry == "M" else entry // 16 for entry in theirs_of.cfgs[LETTERS[number]]]
    theirs.features = theirs_of.make_layers(widths, batch_norm=bool(norm))
    theirs.classifier = torch.nn.Sequential(
        torch.nn.Linear(32 * 49, 256), torch.nn.ReLU(), torch.nn.Dropout(),
        torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(256, 10),
    )  # fmt: skip
    randomise(theirs)
    compare(
        models.get_model(name, num_classes=10, width=1 / 16), theirs, (3, 3, 64, 64), vanishing=before_norms(theirs)
    )


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("name", TORCHVISION)
def test_it_agrees_with_torchvision(name):
    """Evaluation at full width; gradients of the convolutions at full width before a narrow head, to save memory."""
    import torch

    theirs = getattr(torchvision_models(), name)(num_classes=10).eval()
    randomise(theirs)
    ours = models.get_model(name, num_classes=10).eval()
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((1, 3, 96, 64)).astype(np.float32)
    with gn.no_grad(), torch.no_grad():
        scores, expected = ours(gn.tensor(x)).numpy(), theirs(torch.tensor(x)).numpy()
    assert np.abs(scores - expected).max() <= 1e-4 * np.abs(expected).max()
    ours.classifier = nn.Sequential(nn.Linear(512 * 49, 10))
    theirs.classifier = torch.nn.Sequential(torch.nn.Linear(512 * 49, 10))
    compare(ours, theirs, (2, 3, 64, 64), vanishing=before_norms(theirs))
