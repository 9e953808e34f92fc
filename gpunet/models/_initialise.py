"""Initial weights of a whole network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gpunet.nn import Module
from gpunet.nn import init as draws

__all__ = ["Rules", "choose_rules", "gaussian", "he", "initialise"]

# What is done to each module of a type; the first type that a module is an instance of counts.
Rules = Mapping[type[Module], Callable[[Any], object]]


def initialise(model: Module, rules: Rules) -> None:
    """Draw all weights of a network, each once.

    Args:
        model: a network whose layers were made inside ``nn.init.skip_draws()``.
        rules: what to do to the modules of a type. Modules of other types draw as they do by themselves, with their
            ``reset_parameters``.
    """
    for module in model.modules():
        rule = next((rule for kind, rule in rules.items() if isinstance(module, kind)), None)
        if rule is not None:
            rule(module)
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()


def choose_rules(init: str, choices: Mapping[str, Rules]) -> Rules:
    """The rules of that name.

    Raises:
        ValueError: there are none.
    """
    if not isinstance(init, str) or init not in choices:
        names = " or ".join(repr(name) for name in choices)
        raise ValueError(f"init: must be {names}, got {init!r}")
    return choices[init]


def gaussian(std: float) -> Callable[[Any], object]:
    """A rule: N(0, std^2) for the weight and 0 for the bias."""

    def rule(layer: Any) -> None:
        draws.normal_(layer.weight, std=std)
        if layer.bias is not None:
            draws.zeros_(layer.bias)

    return rule


def he(mode: str) -> Callable[[Any], object]:
    """A rule: He et al. 2015's normal distribution for ReLU, by ``"fan_in"`` or ``"fan_out"``, and 0 for the bias."""

    def rule(layer: Any) -> None:
        draws.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
        if layer.bias is not None:
            draws.zeros_(layer.bias)

    return rule
