"""The shapes that are timed, against what is known of the networks."""

import pytest

from benchmarks.gpu.workloads import DIRECTIONS, NETWORKS, Conv, network_workloads, shrunk


@pytest.mark.parametrize(
    "name, layers, distinct, macs",
    [
        # torchvision's resnet50: 4,089,184,256 multiply-adds, of which the linear layer has 2,048,000.
        ("resnet50", 53, 23, 4_087_136_256),
        # vgg16: 15,470,264,320, of which its three linear layers have 123,633,664.
        ("vgg16", 13, 9, 15_346_630_656),
        # cifar_resnet20 with shortcut A: 40,551,040, of which the linear layer has 640.
        ("cifar_resnet20", 19, 6, 40_550_400),
        # MobileNet: 3.06 % of 568,740,352 (Howard et al. 2017, table 2).
        ("depthwise", 13, 9, 17_385_984),
    ],
)
def test_networks_have_the_multiply_adds_that_are_known(name, layers, distinct, macs):
    workloads = network_workloads(name, batch=1)
    assert sum(count for _, count in workloads) == layers
    assert len(workloads) == distinct
    assert sum(conv.macs * count for conv, count in workloads) == macs


def test_every_model_here_has_the_convolutions_that_are_timed():
    """gpunet's own cifar_resnet20, asked layer by layer."""
    import gpunet as gn
    from gpunet import nn

    seen = []
    net = gn.models.cifar_resnet20()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            seen.append((*module.weight.shape, module.stride[0], module.padding[0]))
    timed = []
    for conv, count in network_workloads("cifar_resnet20"):
        timed += [(*conv.w_shape, conv.stride, conv.padding)] * count
    assert sorted(timed) == sorted(seen)


def test_default_batches():
    batches = {name: {conv.batch for conv, _ in network_workloads(name)} for name in NETWORKS}
    assert batches == {"resnet50": {32}, "vgg16": {16}, "cifar_resnet20": {128}, "depthwise": {32}}
    assert {conv.batch for conv, _ in network_workloads("vgg16", batch=3)} == {3}


def test_quick_takes_some_of_each():
    for name in NETWORKS:
        every, some = network_workloads(name), network_workloads(name, quick=True)
        assert 0 < len(some) < len(every)
        assert set(some) <= set(every)
    kinds = {(conv.kernel, conv.stride) for conv, _ in network_workloads("resnet50", quick=True)}
    assert kinds == {(7, 2), (3, 1), (3, 2), (1, 1), (1, 2)}


def test_sizes_of_one_convolution():
    conv = Conv(32, 3, 224, 64, 7, 2, 3)  # the first of ResNet-50
    assert (conv.x_shape, conv.w_shape, conv.y_shape) == ((32, 3, 224, 224), (64, 3, 7, 7), (32, 64, 112, 112))
    assert conv.flops == 2 * 32 * 118_013_952
    assert [conv.terms(direction) for direction in DIRECTIONS] == [3 * 49, 64 * 49, 32 * 112 * 112]
    numbers = 32 * 3 * 224 * 224 + 64 * 3 * 49 + 32 * 64 * 112 * 112
    assert conv.least_bytes("forward") == 4 * numbers
    assert str(conv) == "32x3x224x224 to 64, 7x7/2"


def test_pixels_that_a_stride_passes_over_need_not_be_read():
    conv = Conv(2, 8, 28, 16, 1, 2)
    rest = 8 * 16 + 2 * 16 * 14 * 14
    assert conv.least_bytes("forward") == conv.least_bytes("weight gradient") == 4 * (2 * 8 * 14 * 14 + rest)
    assert conv.least_bytes("input gradient") == 4 * (2 * 8 * 28 * 28 + rest)


def test_shrunk_convolutions_are_of_the_same_kind():
    for name in NETWORKS:
        for conv, _ in network_workloads(name):
            small = shrunk(conv)
            assert (small.kernel, small.stride, small.padding) == (conv.kernel, conv.stride, conv.padding)
            assert (small.groups == small.channels) == (conv.groups == conv.channels)
            assert small.macs < 200_000
