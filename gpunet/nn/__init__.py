"""Layers, losses, initialisers and their functional forms, under PyTorch's names."""

from gpunet.nn import functional, init, utils
from gpunet.nn.activation import Dropout, Flatten, LogSoftmax, ReLU, Softmax
from gpunet.nn.batchnorm import BatchNorm1d, BatchNorm2d
from gpunet.nn.container import ModuleList, Sequential
from gpunet.nn.conv import Conv2d
from gpunet.nn.linear import Identity, Linear
from gpunet.nn.loss import CrossEntropyLoss, MSELoss, NLLLoss
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter
from gpunet.nn.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Identity",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "Sequential",
    "Softmax",
    "functional",
    "init",
    "utils",
]
