"""The model zoo: one file for each paper, and a registry of names."""

from gpunet.models._registry import UnknownModelError, get_model, list_models, register_model
from gpunet.models.cifar_resnet import (
    CifarResNet,
    cifar_resnet20,
    cifar_resnet32,
    cifar_resnet44,
    cifar_resnet56,
    cifar_resnet110,
)
from gpunet.models.lenet import LeNet, lenet

__all__ = [
    "CifarResNet",
    "LeNet",
    "UnknownModelError",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
    "get_model",
    "lenet",
    "list_models",
    "register_model",
]
