"""Layers, losses, initialisers and their functional forms, under PyTorch's names."""

from gpunet.nn import functional, init, utils
from gpunet.nn.activation import Dropout, Flatten, LogSoftmax, ReLU, Softmax
from gpunet.nn.batchnorm import BatchNorm1d, BatchNorm2d
from gpunet.nn.container import ModuleDict, ModuleList, Sequential
from gpunet.nn.conv import Conv2d
from gpunet.nn.linear import Identity, Linear
from gpunet.nn.loss import CrossEntropyLoss, MSELoss, NLLLoss
from gpunet.nn.module import Module
from gpunet.nn.parameter import Parameter
from gpunet.nn.parameter_containers import ParameterDict, ParameterList
from gpunet.nn.pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    LPPool1d,
    LPPool2d,
    LPPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    MaxUnpool1d,
    MaxUnpool2d,
    MaxUnpool3d,
)

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Identity",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ParameterDict",
    "ParameterList",
    "ReLU",
    "Sequential",
    "Softmax",
    "functional",
    "init",
    "utils",
]
