"""The model zoo: one file for each paper, and a registry of names."""

from gpunet.models._registry import UnknownModelError, get_model, list_models, register_model
from gpunet.models.alexnet import AlexNet, alexnet
from gpunet.models.cifar_resnet import (
    CifarResNet,
    cifar_resnet20,
    cifar_resnet32,
    cifar_resnet44,
    cifar_resnet56,
    cifar_resnet110,
)
from gpunet.models.fully_conv import FullyConvolutional, to_fully_conv
from gpunet.models.googlenet import BasicConv2d, GoogLeNet, GoogLeNetOutputs, Inception, InceptionAux, googlenet
from gpunet.models.googlenet_paper import PaperGoogLeNet, googlenet_loss, googlenet_paper
from gpunet.models.lenet import LeNet, lenet
from gpunet.models.nin import MLPConv, NiN, nin_cifar10, nin_imagenet
from gpunet.models.vgg import (
    VGG,
    start_from_a,
    vgg11,
    vgg11_bn,
    vgg11_lrn,
    vgg13,
    vgg13_bn,
    vgg16,
    vgg16_bn,
    vgg16_c,
    vgg19,
    vgg19_bn,
)

__all__ = [
    "AlexNet",
    "BasicConv2d",
    "CifarResNet",
    "FullyConvolutional",
    "GoogLeNet",
    "GoogLeNetOutputs",
    "Inception",
    "InceptionAux",
    "LeNet",
    "MLPConv",
    "NiN",
    "PaperGoogLeNet",
    "UnknownModelError",
    "VGG",
    "alexnet",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
    "get_model",
    "googlenet",
    "googlenet_loss",
    "googlenet_paper",
    "lenet",
    "list_models",
    "nin_cifar10",
    "nin_imagenet",
    "register_model",
    "start_from_a",
    "to_fully_conv",
    "vgg11",
    "vgg11_bn",
    "vgg11_lrn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg16_c",
    "vgg19",
    "vgg19_bn",
]
