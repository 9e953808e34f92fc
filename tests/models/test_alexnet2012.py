"""AlexNet of 2012 in two towers: the paper's counts, the same bits wherever the towers are, and what crosses."""

from __future__ import annotations

import copy
import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import models, nn, optim
from gpunet.autograd import observe
from gpunet.backend import parcels
from gpunet.data import info
from gpunet.models import recipes
from gpunet.training import classification

from .counting import count, fact, fact_input, golden, rows, run, shape_of

PLACEMENTS = [("cpu", "cpu"), ("cpu:0", "cpu:1"), ("cpu:1", "cpu:0"), ("cpu:1", "cpu:1"), ("cpu:2", "cpu:5")]
SMALL = {"num_classes": 5, "width": 1 / 12, "input_size": 67}  # 4 + 4 channels after conv1, 1x1 after pool5


@pytest.fixture(scope="module")
def towers():
    with gn.device("meta"):
        return models.alexnet2012()


def images(seed: int = 0, batch: int = 3, size: int = 67) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 3, size, size))


def small(devices=None, dtype: str = "float64", **options):
    gn.manual_seed(0)
    return livened(models.alexnet2012(devices=devices, **{**SMALL, **options})).to(dtype=dtype)


def livened(model):
    """Larger weights: at this width the paper's would let the image vanish among the biases."""
    rng = np.random.default_rng(1)
    for path, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            fan_in = layer.weight[0].numel()
            layer.weight.detach().copy_(gn.tensor(rng.standard_normal(layer.weight.shape) * (2 / fan_in) ** 0.5))
            layer.bias.detach().fill_(0.1 if path.endswith("fc6") else 0.0)
    return model


def grouped_twin(model, **options):
    """The one-device form with the same weights."""
    twin = models.alexnet2012_grouped(**{**SMALL, **options}).to(dtype=model.fc8.weight.dtype)
    twin.load_state_dict(models.grouped_state(model.state_dict()))
    return twin


def difference(a, b) -> float:
    a, b = np.asarray(a), np.asarray(b)
    assert np.abs(b).max() > 0
    return float(np.abs(a - b).max() / np.abs(b).max())


# The facts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, make",
    [
        ("alexnet2012_twotower", models.alexnet2012),
        ("alexnet2012_grouped", models.alexnet2012_grouped),
        ("alexnet_ungrouped", lambda: models.alexnet2012_grouped(groups=1)),
        ("caffenet", lambda: models.alexnet2012_grouped(lrn="all", pool_first=True, init="caffe")),
    ],
)
def test_totals(name, make):
    """Row B77: 30 tensors in two towers, 16 on one device, the same parameters and multiply-adds."""
    with gn.device("meta"):
        model = make()
    assert count(model, fact_input(name)) == fact(name)


def test_every_layer():
    """Section A3 of the facts, layer by layer."""
    with gn.device("meta"):
        model = models.alexnet2012_grouped()
    kinds = {"TowerNorm": "LRN"}
    found = [
        (layer.path, kinds.get(layer.type, layer.type), layer.output, layer.params, layer.macs)
        for layer in run(model, (3, 227, 227))[1:]
    ]
    expected = [
        (row["layer"], row["type"], shape_of(row["output"]), int(row["params"]), int(row["macs"]))
        for row in rows("layers")
        if row["model"] == "alexnet2012_grouped"
    ]
    assert len(expected) == 23
    assert found == expected


def test_the_arrows(towers):
    """Rows B68 to B75: the weights of the eight arrows, from the layers; arrow 6 is the paper's, on the 6x6 maps."""
    arrows = golden()["alexnet_arrows"]
    names = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
    pairs = [(getattr(towers.tower0, name), getattr(towers.tower1, name)) for name in names]
    weights = [a.weight.numel() + b.weight.numel() for a, b in pairs] + [towers.fc8.weight.numel()]
    biases = [a.bias.numel() + b.bias.numel() for a, b in pairs] + [towers.fc8.bias.numel()]
    keys = ["1", "2", "3", "4", "5", "6_paper", "7", "8"]
    assert dict(zip(keys, weights, strict=True)) == {key: arrows[key] for key in keys}
    assert biases == [96, 256, 384, 384, 256, 4096, 4096, 1000]
    assert sum(weights) == arrows["weights_total_paper"]
    assert sum(biases) == arrows["biases"]
    assert sum(weights) + sum(biases) == arrows["total"]
    # What the other readings of arrow 6 would connect: 13x13 maps, of one tower or of both.
    maps, units = towers.tower0.conv5.out_channels, towers.tower0.fc6.out_features
    assert 13 * 13 * maps * units * 2 == arrows["6_seed"]
    assert 13 * 13 * maps * 2 * units * 2 == arrows["6_slide_177M"]


def test_a_tower(towers):
    """Row B77: 28,434,112 parameters on each device, and fc8."""
    expected = golden()["alexnet_tower"]
    for tower in (towers.tower0, towers.tower1):
        found = {name: sum(p.numel() for p in layer.parameters()) for name, layer in tower.named_children()}
        assert {name: number for name, number in found.items() if number} == expected["per_tower"]
        assert sum(found.values()) == expected["tower_sum"]
    assert sum(p.numel() for p in towers.fc8.parameters()) == expected["fc8"]


def test_neurons():
    """Section A12: 659,272 of them, which the paper calls 650,000."""
    with gn.device("meta"):
        layers = {layer.path: layer for layer in run(models.alexnet2012_grouped(), (3, 227, 227))}
    names = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    neurons = [int(np.prod(layers[name].output)) for name in names]
    assert neurons == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    assert sum(neurons) == 659_272


@pytest.mark.parametrize("make", [models.alexnet2012, models.alexnet2012_grouped])
def test_images_of_224_pixels_are_padded(make):
    with gn.device("meta"):
        model = make(input_size=224)
        assert count(model, (3, 224, 224)).params == 60_965_224
        assert count(model, (3, 224, 224)).macs == 724_406_816
        with pytest.raises(gn.ShapeError, match=r"input must have shape \(N, 3, 224, 224\), got \(1, 3, 227, 227\)"):
            model(gn.empty(1, 3, 227, 227))
        # Without padding the paper's sizes do not come out.
        assert count(make(input_size=224, padding=0), (3, 224, 224)).params < 60_965_224


# The towers ---------------------------------------------------------------------------------------------------------


def train(model, steps: int = 3, kind=optim.SGD, **options):
    """Losses, the norm of the gradients and the state after a few steps, dropout and clipping included."""
    gn.manual_seed(5)
    first = model.devices[0]
    optimizer = kind(model.parameters(), **options)
    dtype = model.fc8.weight.dtype
    x, labels = gn.tensor(images().astype(dtype), device=first), gn.tensor(np.arange(3), device=first)
    values = []
    for _ in range(steps):
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        values += [loss.item(), nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()]
        optimizer.step()
    state = {key: value.cpu().numpy() for key, value in model.state_dict().items()}
    return values, state, optimizer


@pytest.mark.parametrize(
    "dtype, kind, options",
    [
        ("float64", optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}),
        ("float32", optim.Adam, {"lr": 1e-3}),
    ],
)
def test_every_placement_gives_the_same_bits(dtype, kind, options):
    """Row B77: outputs, gradients' norms and weights after training steps, wherever the towers are."""
    expected, state, _ = train(small(dtype=dtype), kind=kind, **options)
    assert expected[0] != expected[2] != expected[4]
    for devices in PLACEMENTS:
        model = small(devices, dtype)
        assert model.devices == tuple(map(gn.device, devices))
        values, found, optimizer = train(model, kind=kind, **options)
        assert values == expected
        for key in state:
            np.testing.assert_array_equal(found[key], state[key], err_msg=f"{devices} {key}")
        second = model.tower1.fc6.weight
        assert second.grad.device == second.device == devices[1]
        moments = [v for k, v in optimizer.state[second].items() if k != "step" and isinstance(v, gn.Tensor)]
        assert moments
        assert {v.device for v in moments} == {second.device}


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "dropout"])
@pytest.mark.parametrize("dtype, output, gradient", [("float64", 1e-14, 1e-12), ("float32", 2e-6, 1e-5)])
@pytest.mark.parametrize("devices", PLACEMENTS[:2])
def test_it_equals_the_grouped_form(devices, dtype, output, gradient, training):
    """Row B77. Where gradients cross, one sum becomes two half-sums."""
    model = small(devices, dtype)
    twin = grouped_twin(model)
    results = []
    for net in (model, twin):
        gn.manual_seed(3)
        x = gn.tensor(images().astype(dtype), requires_grad=True)
        y = net.train(training)(x)
        F.cross_entropy(y, gn.tensor(np.arange(3))).backward()
        gradients = {name: p.grad for name, p in net.named_parameters()}
        if net is model:
            gradients = models.grouped_state(gradients)
        results.append((y.detach().numpy(), x.grad.numpy(), gradients))
    (y, dx, ours), (twin_y, twin_dx, theirs) = results
    assert difference(y, twin_y) <= output
    assert difference(dx, twin_dx) <= gradient
    for name, expected in theirs.items():
        assert difference(ours[name].numpy(), expected.numpy()) <= gradient, name


def test_it_equals_the_grouped_form_exactly_where_sums_are_exact():
    """With small integers no sum is rounded, and a dropout of a half multiplies by 0 or 2."""
    options = {"lrn": None}
    model = small(("cpu", "cpu:1"), lrn=False, dropout=0.5)
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        values = rng.integers(-1, 2, parameter.shape) * (rng.random(parameter.shape) < 0.3)
        parameter.detach().copy_(gn.tensor(values.astype(np.float64)))
    twin = grouped_twin(model, **options)
    results = []
    for net in (model, twin):
        gn.manual_seed(3)
        x = gn.tensor(rng.integers(-2, 3, (3, 3, 67, 67)).astype(np.float64) if net is model else results[0][0])
        x.requires_grad_()
        y = net(x)
        (y * gn.tensor(np.arange(-7.0, 8).reshape(3, 5))).sum().backward()
        gradients = {name: p.grad for name, p in net.named_parameters()}
        results.append((x.detach().numpy(), y.detach().numpy(), x.grad.numpy(), gradients))
    (_, y, dx, ours), (_, twin_y, twin_dx, theirs) = results
    assert np.abs(twin_y).max() > 100
    np.testing.assert_array_equal(y, twin_y)
    np.testing.assert_array_equal(dx, twin_dx)
    for name, value in models.grouped_state(ours).items():
        assert np.abs(value.numpy()).max() < 2**52
        np.testing.assert_array_equal(value.numpy(), theirs[name].numpy(), err_msg=name)


def test_a_tower_sees_the_other_only_where_the_arrows_cross():
    """Rows B68 to B75: what reaches which layer."""
    model = small(("cpu", "cpu:1"), dropout=0.0).eval()

    def activations():
        seen = {}
        handles = [
            layer.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output.numpy()}))
            for name, layer in model.named_modules()
            if isinstance(layer, (nn.Conv2d, nn.Linear))
        ]
        with gn.no_grad():
            model(gn.tensor(images()))
        for handle in handles:
            handle.remove()
        return seen

    def changed_by(layer) -> set[str]:
        before = activations()
        layer.weight.detach().mul_(0.5)
        after = activations()
        return {name for name in after if name.startswith("tower1") and not np.array_equal(before[name], after[name])}

    late = {"tower1.fc6", "tower1.fc7"}
    assert changed_by(model.tower0.conv1) == {"tower1.conv3", "tower1.conv4", "tower1.conv5"} | late
    assert changed_by(model.tower0.conv2) == {"tower1.conv3", "tower1.conv4", "tower1.conv5"} | late
    assert changed_by(model.tower0.conv3) == late
    assert changed_by(model.tower0.conv5) == late
    assert changed_by(model.tower0.fc6) == {"tower1.fc7"}
    assert changed_by(model.tower0.fc7) == set()
    assert changed_by(model.tower1.conv2) >= {"tower1.conv2"}


def test_gradcheck():
    """In a random direction, float64, through the exchanges."""
    model = small(("cpu", "cpu:1"), dropout=0.0)
    rng = np.random.default_rng(2)
    x = gn.tensor(images(), requires_grad=True)
    leaves = [x, *model.parameters()]
    weights = gn.tensor(rng.standard_normal((3, 5)))
    (model(x) * weights).sum().backward()
    directions = [rng.standard_normal(leaf.shape) * leaf.detach().cpu().numpy().std() for leaf in leaves]
    slope = sum(float((leaf.grad.cpu().numpy() * d).sum()) for leaf, d in zip(leaves, directions, strict=True))

    def loss(step: float) -> float:
        with gn.no_grad():
            for leaf, d in zip(leaves, directions, strict=True):
                leaf.add_(gn.tensor(step * d, device=leaf.device))
            value = (model(x) * weights).sum().item()
            for leaf, d in zip(leaves, directions, strict=True):
                leaf.sub_(gn.tensor(step * d, device=leaf.device))
        return value

    step = 1e-6
    assert abs(slope) > 0.1
    assert (loss(step) - loss(-step)) / (2 * step) == pytest.approx(slope, rel=1e-6)


def test_mixing_raises():
    model = small(("cpu:0", "cpu:1")).eval()
    model.tower1.conv4.to("cpu:0")
    with pytest.raises(gn.DeviceError, match=r"must be on one device, got 'cpu:1' and 'cpu'"):
        model(gn.tensor(images()))
    with pytest.raises(gn.DeviceError, match=r"must be on one device, got 'cpu:1' and 'cpu'"):
        small(("cpu:0", "cpu:1"))(gn.tensor(images(), device="cpu:1"))


# Traffic ------------------------------------------------------------------------------------------------------------


def expected_traffic() -> dict[tuple[str, int, int], int]:
    """Section A12 of the facts: floats per image and direction. fc8 is on the first device alone."""
    floats = {"pool2": 21_632, "pool5": 4_608, "fc6": 2_048, "fc7": 2_048}
    return {
        (layer, source, 1 - source): number
        for layer, number in floats.items()
        for source in ((1, 0) if layer != "fc7" else (1,))
    }


def test_traffic(towers):
    found = towers.traffic()
    assert {(c.layer, c.source, c.target): c.floats for c in found} == expected_traffic()
    assert len(found) == 7
    assert sum(c.floats for c in found if c.target == 0) == 30_336
    assert towers.training


def test_what_crosses_is_what_traffic_says(monkeypatch):
    """Every copy between the devices is seen, forward and backward, and nothing else crosses but the images."""
    model = small(("cpu", "cpu:1")).eval()
    seen: list[tuple[str, str, int]] = []

    class Watched(parcels.Parcel):
        def __init__(self, array, source, target):
            seen.append((str(source), str(target), array.size))
            super().__init__(array, source, target)

    monkeypatch.setattr("gpunet.autograd.exchange.Parcel", Watched)
    names = ("cpu", "cpu:1")
    expected = [(names[c.source], names[c.target], 3 * c.floats) for c in model.traffic()]
    assert seen == [(source, target, floats // 3) for source, target, floats in expected]  # for its one image
    seen.clear()
    moved = []

    def watch(op, inputs, attributes, outputs, path):
        if op.name != "exchange" and inputs[0].device != outputs[0].device:
            moved.append((op.name, inputs[0].shape))

    with observe(watch):
        y = model(gn.tensor(images()))
    assert seen == expected
    assert moved == [("to_device", (3, 3, 67, 67))]
    seen.clear()
    y.sum().backward()
    assert sorted(seen) == sorted((target, source, floats) for source, target, floats in expected)


def test_the_exchange_is_recorded_when_both_halves_are_frozen_or_only_one():
    for frozen in itertools.product([False, True], repeat=2):
        halves = [
            gn.tensor(images(i, 2, 4), device=f"cpu:{i}", requires_grad=not frozen[i]) for i in (0, 1)
        ]  # both are (2, 3, 4, 4)
        first, second = gn.autograd.exchange.exchange(*halves)
        assert (str(first.device), str(second.device)) == ("cpu", "cpu:1")
        np.testing.assert_array_equal(first.detach().numpy(), second.detach().numpy())
        assert first.requires_grad is second.requires_grad is not all(frozen)
        weights = np.random.default_rng(7).standard_normal((2, 2, 6, 4, 4))
        for whole, weight in zip((first, second), weights, strict=True):
            if whole.requires_grad:
                (whole * gn.tensor(weight, device=whole.device)).sum().backward(retain_graph=True)
        for half, part in zip(halves, (slice(0, 3), slice(3, 6)), strict=True):
            if half.requires_grad:
                np.testing.assert_allclose(half.grad.numpy(), weights.sum(0)[:, part], rtol=1e-14)
            else:
                assert half.grad is None


# Normalisation and the relatives ------------------------------------------------------------------------------------


def normalised(x: np.ndarray) -> np.ndarray:
    """Section 3.3 of the paper, as it stands there."""
    squares = np.pad(x**2, ((0, 0), (2, 2), (0, 0), (0, 0)))
    return x / (2 + 1e-4 * sum(squares[:, i : i + x.shape[1]] for i in range(5))) ** 0.75


def test_normalising_across_the_towers_differs_near_the_border_alone():
    """Section A12: Caffe's networks do so; where responses are a few units, by about 1e-3 of the largest."""
    x = np.abs(np.random.default_rng(0).standard_normal((2, 96, 9, 9))) * 2.7
    with gn.device("meta"):
        per_tower = models.alexnet2012_grouped().norm1
        across = models.alexnet2012_grouped(lrn="all").norm1
        tower = models.alexnet2012().tower1.norm1
    assert type(across) is type(tower) is nn.LocalResponseNorm
    a, b = per_tower(gn.tensor(x)).numpy(), across(gn.tensor(x)).numpy()
    np.testing.assert_allclose(a, np.concatenate([normalised(half) for half in np.split(x, 2, 1)], 1), rtol=1e-13)
    np.testing.assert_allclose(b, normalised(x), rtol=1e-13)
    np.testing.assert_array_equal(a[:, 48:], tower(gn.tensor(x[:, 48:])).numpy())
    np.testing.assert_array_equal(np.nonzero((a != b).any((0, 2, 3)))[0], [46, 47, 48, 49])
    assert 1e-3 < difference(a, b) < 2e-3


def test_responses_are_normalised_as_in_the_paper():
    """Row B78; golden.json's response at each channel 10, 20, ..., 80 of a pixel."""
    norm = models.alexnet2012(**SMALL).tower0.norm1
    x = gn.tensor(np.arange(10.0, 90, 10).reshape(1, 8, 1, 1))
    np.testing.assert_allclose(norm(x).numpy().ravel(), golden()["lrn"]["paper_k2_n5_alpha1e-4_beta.75"], rtol=1e-6)
    assert (norm.size, norm.alpha, norm.beta, norm.k, norm.alpha_over_size) == (5, 1e-4, 0.75, 2.0, False)


def names_of(model) -> list[str]:
    return [name for name, _ in model.named_children()]


def test_what_helped_can_be_switched_off():
    """Row B78: normalisation, overlapping pooling and dropout."""
    plain = models.alexnet2012_grouped(**SMALL, lrn=None)
    assert not any(isinstance(module, nn.LocalResponseNorm) for module in plain.modules())
    assert not any(isinstance(module, nn.LocalResponseNorm) for module in small(lrn=False).modules())
    with gn.device("meta"):
        for model in (models.alexnet2012(overlapping=False), models.alexnet2012_grouped(overlapping=False)):
            windows = {module.kernel_size for module in model.modules() if isinstance(module, nn.MaxPool2d)}
            assert windows == {2}
            assert count(model, (3, 227, 227)).params == 60_965_224  # 55, 27, 13 and 6 pixels all the same
    x = gn.tensor(images())
    model = small()
    trained = model(x).detach().numpy()
    assert not np.array_equal(trained, model.eval()(x).detach().numpy())
    without = small(dropout=0.0)
    np.testing.assert_array_equal(without(x).detach().numpy(), without.eval()(x).detach().numpy())


def test_dropout_keeps_the_expectation_and_half_of_the_units():
    """Row B78; one mask for both towers, not the same in each."""
    with gn.device("meta"):
        units = models.alexnet2012().tower0.fc6.out_features
    model = small(("cpu", "cpu:1"), width=1 / 8)
    gn.manual_seed(0)
    first, second = model._masks("6", 50)
    assert (str(first.device), str(second.device)) == ("cpu", "cpu:1")
    assert first.shape == second.shape == (50, units // 8)
    gn.manual_seed(0)
    joined = F.dropout(gn.ones(50, units // 4), 0.5).numpy()
    np.testing.assert_array_equal(np.concatenate([first.numpy(), second.numpy()], 1), joined)
    assert not np.array_equal(first.numpy(), second.numpy())
    assert joined.mean() == pytest.approx(1, abs=0.03)
    assert set(np.unique(joined)) == {0, 2}


def test_caffenet_pools_first():
    plain = names_of(models.alexnet2012_grouped(**SMALL))
    caffenet = names_of(models.alexnet2012_grouped(**SMALL, lrn="all", pool_first=True))
    assert plain[:4] == ["conv1", "relu1", "norm1", "pool1"]
    assert caffenet[:8] == ["conv1", "relu1", "pool1", "norm1", "conv2", "relu2", "pool2", "norm2"]
    model = small(("cpu", "cpu:1"), pool_first=True)
    twin = grouped_twin(model, pool_first=True).eval()
    x = gn.tensor(images())
    assert difference(model.eval()(x).detach().numpy(), twin(x).detach().numpy()) < 1e-13


@pytest.mark.parametrize("make", [models.alexnet2012, models.alexnet2012_grouped])
@pytest.mark.parametrize("init, dense, bias", [("paper", 0.01, 1.0), ("caffe", 0.005, 0.1)])
def test_initial_weights(make, init, dense, bias):
    """Section 5 of the paper; Caffe's bvlc_alexnet."""
    model = make(input_size=67, width=0.5, init=init)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    assert len(layers) in (8, 15)
    for path, layer in layers.items():
        name = path.rpartition(".")[2]
        std = dense if name in ("fc6", "fc7") else 0.01
        weight = layer.weight.detach().numpy()
        assert weight.std() == pytest.approx(std, rel=0.03), path
        assert abs(weight.mean()) < std / 20
        expected = bias if name in ("conv2", "conv4", "conv5", "fc6", "fc7") else 0
        np.testing.assert_array_equal(layer.bias.detach().numpy(), np.float32(expected), err_msg=path)


# State and devices --------------------------------------------------------------------------------------------------


def test_the_state_converts_both_ways():
    model = small(("cpu", "cpu:1"))
    state = model.state_dict()
    grouped = models.grouped_state(state)
    assert list(grouped) == list(models.alexnet2012_grouped(**SMALL).state_dict())
    back = models.towers_state(grouped)
    assert list(back) == list(state)
    for key, value in state.items():
        np.testing.assert_array_equal(back[key].numpy(), value.numpy(), err_msg=key)
    arrays = models.towers_state({key: value.numpy() for key, value in grouped.items()})
    assert all(np.array_equal(arrays[key].numpy(), back[key].numpy()) for key in back)
    back["tower0.conv1.weight"].fill_(7)
    assert not np.any(grouped["conv1.weight"].numpy() == 7)
    with pytest.raises(gn.CheckpointError, match=r"'conv1.weight' is not a pair of towers' state"):
        models.grouped_state(grouped)
    with pytest.raises(gn.CheckpointError, match=r"'tower0.conv1.weight' .* cannot be split"):
        models.towers_state(state)
    for missing in ("tower0.conv1.weight", "tower1.conv1.weight"):
        partial = {key: value for key, value in state.items() if key != missing}
        with pytest.raises(gn.CheckpointError, match=r"conv1.weight' is not a pair"):
            models.grouped_state(partial)


def test_states_that_cannot_be_converted():
    state = small().state_dict()
    halves = r"state: 'tower0.conv1.bias' is of shape \(\d+,\) and 'tower1.conv1.bias' of \(1,\)"
    with pytest.raises(gn.CheckpointError, match=halves):
        models.grouped_state({**state, "tower1.conv1.bias": gn.ones(1)})
    with pytest.raises(gn.CheckpointError, match="with at least one dimension"):
        models.grouped_state({"tower0.a": gn.ones(()), "tower1.a": gn.ones(())})
    for convert in (models.grouped_state, models.towers_state):
        name = convert.__name__
        for wrong in (3, "file.pth", [gn.ones(2)], None):
            with pytest.raises(TypeError, match=rf"{name}: state: expected a dict .*, got {type(wrong).__name__}"):
                convert(wrong)
        with pytest.raises(TypeError, match=rf"{name}: state\['fc8.bias'\]: expected a Tensor or an array, got str"):
            convert({"fc8.bias": "x"})
        with pytest.raises(TypeError, match=rf"{name}: state: names must be strings, got 3"):
            convert({3: gn.ones(2)})


def test_within_another_model():
    net = nn.Sequential(nn.BatchNorm2d(3), small(("cpu:0", "cpu:1")))
    net.to(("cpu:1", "cpu:2"))
    assert [str(device) for device in net[1].devices] == ["cpu:1", "cpu:2"]
    assert str(net(gn.tensor(images()).to("cpu:1")).device) == "cpu:1"
    with pytest.raises(gn.DeviceError, match=r"AlexNet2012 spreads over 2 devices, got the single device 'cpu'"):
        net.to("cpu")
    with pytest.raises(gn.DeviceError, match=r"pass a pair \(d0, d1\)"):
        net.to(("cpu",))


def test_state_copies_and_files(tmp_path):
    model = small(("cpu", "cpu:1")).eval()
    x = gn.tensor(images())
    expected = model(x).detach().numpy()
    gn.save(model.state_dict(), tmp_path / "towers")
    loaded = small(("cpu:2", "cpu:3"), init="caffe").eval()
    loaded.load_state_dict(gn.load(tmp_path / "towers"))
    assert loaded.devices == (gn.device("cpu:2"), gn.device("cpu:3"))
    np.testing.assert_array_equal(loaded(x.to("cpu:2")).detach().numpy(), expected)
    twin = copy.deepcopy(model)
    assert twin.devices == model.devices
    np.testing.assert_array_equal(twin(x).detach().numpy(), expected)
    twin.tower1.conv1.weight.detach().fill_(0)
    np.testing.assert_array_equal(model(x).detach().numpy(), expected)
    optimizer = train(copy.deepcopy(model), kind=optim.Adam, lr=1e-3)[2]
    gn.save(optimizer.state_dict(), tmp_path / "adam")
    other = small(("cpu", "cpu:1"))
    restored = optim.Adam(other.parameters(), lr=1e-3)
    restored.load_state_dict(gn.load(tmp_path / "adam"))
    assert {str(restored.state[p]["exp_avg"].device) for p in other.parameters()} == {"cpu", "cpu:1"}


def test_moving():
    model = small()
    assert model.devices == (gn.device("cpu"), gn.device("cpu"))
    x = gn.tensor(images())
    expected = model.eval()(x).detach().numpy()
    assert model.to(("cpu:1", "cpu:2")) is model
    assert model.devices == (gn.device("cpu:1"), gn.device("cpu:2"))
    assert model.fc8.weight.device == "cpu:1"
    np.testing.assert_array_equal(model(x.to("cpu:1")).detach().numpy(), expected)
    model.to(("cpu", "cpu:1"), "float32")
    assert {str(p.dtype) for p in model.parameters()} == {"float32"}
    model.double()
    assert model.devices == (gn.device("cpu"), gn.device("cpu:1"))
    for move in (lambda: model.to("cpu"), model.cpu, lambda: nn.Sequential(model).to("cpu:1")):
        with pytest.raises(gn.DeviceError, match=r"AlexNet2012 spreads over 2 devices, got the single device 'cpu"):
            move()
    with pytest.raises(gn.DeviceError, match=r"pass a pair \(d0, d1\)"):
        model.to(("cpu", "cpu:1", "cpu:2"))
    assert model.devices == (gn.device("cpu"), gn.device("cpu:1"))
    with gn.device("cpu:3"):
        assert models.alexnet2012(**SMALL).devices == (gn.device("cpu:3"),) * 2
        with pytest.raises(gn.DeviceError, match="AlexNet2012Grouped"):
            models.alexnet2012_grouped(**SMALL).to(("cpu", "cpu:1"))


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({"devices": "cpu"}, gn.DeviceError, r"pass a pair \(d0, d1\), got 'cpu'"),
        ({"devices": ("cpu",)}, gn.DeviceError, r"pass a pair"),
        ({"devices": ("cpu", "meta")}, gn.DeviceError, "both be 'meta' or neither"),
        ({"devices": ("cpu", "tpu")}, gn.DeviceError, "unknown device 'tpu'"),
        ({"input_size": 30}, ValueError, r"AlexNet2012: input_size is too small, got 30: pool2 has a window of 3x3"),
        ({"input_size": 10}, ValueError, r"conv1 has a window of 11x11 and only 10x10"),
        ({"num_classes": 0}, ValueError, "num_classes"),
        ({"dropout": 1.5}, ValueError, "dropout must be between 0 and 1"),
        ({"init": "he"}, ValueError, "init: must be 'paper' or 'caffe', got 'he'"),
        ({"width": 0}, ValueError, "width must be positive"),
    ],
)
def test_refusals(options, error, text):
    with pytest.raises(error, match=text):
        models.alexnet2012(**{**SMALL, **options})


@pytest.mark.parametrize(
    "options, text", [({"groups": 3}, "groups: must be 1 or 2"), ({"lrn": "both"}, "lrn: must be 'towers', 'all' or")]
)
def test_refusals_of_the_grouped_form(options, text):
    with pytest.raises(ValueError, match=text):
        models.alexnet2012_grouped(**SMALL, **options)


def test_a_training_run_has_it_on_one_device():
    """As ``gpunet train`` and ``gpunet predict`` have one."""
    photos = info.DatasetInfo("photos", ("a", "b", "c"), (3, 70, 80), (0.5,) * 3, (0.2,) * 3)
    with gn.device("meta"):
        model = classification.build_model("alexnet2012", photos, recipes.Recipe(crop=67))
    assert (model.plan.num_classes, model.plan.input_size) == (3, 67)
    placed = classification._placed(small(), gn.device("cpu:1"))
    assert placed.devices == (gn.device("cpu:1"),) * 2
    assert placed(gn.tensor(images(), device="cpu:1")).shape == (3, 5)


@pytest.mark.slow
def test_the_docs_run(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "alexnet2012.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    code = "\n".join(blocks)  # one goes on from the other
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert "(device('cpu'), device('cpu:1'))" in printed
    assert "fc7: tower 1 -> 0, 2,048 floats" in printed
    assert "[46, 47, 48, 49]" in printed


# GPUs ---------------------------------------------------------------------------------------------------------------


def on_gpus(devices, steps: int = 3):
    options = {"lr": 0.1, "momentum": 0.9}
    values, state, _ = train(small(devices), steps, **options)
    expected, expected_state, _ = train(small(), steps, **options)
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    for key, value in expected_state.items():
        assert difference(state[key], value) < 1e-9, key


@pytest.mark.gpu
@pytest.mark.parametrize("devices", [("cuda:0", "cpu"), ("cpu", "cuda:0"), ("cuda:0", "cuda:0")])
def test_training_on_a_gpu_and_the_cpu(devices):
    on_gpus(devices)


@pytest.mark.gpu
@pytest.mark.parametrize("devices", [("cuda:0", "cuda:1"), ("cuda:1", "cuda:0"), ("cuda:1", "cuda:1")])
def test_training_on_two_gpus(devices):
    """Row B77. Repeated, as a missing wait need not show each time."""
    if gn.cuda.device_count() < 2:
        pytest.skip(f"needs two GPUs, CuPy finds {gn.cuda.device_count()}")
    for _ in range(5):
        on_gpus(devices)


@pytest.mark.gpu
def test_two_gpus_on_streams_of_their_own():
    if gn.cuda.device_count() < 2:
        pytest.skip(f"needs two GPUs, CuPy finds {gn.cuda.device_count()}")
    with gn.cuda.stream(gn.cuda.Stream(1)), gn.cuda.stream(gn.cuda.Stream(0)):
        on_gpus(("cuda:0", "cuda:1"))
