"""Attention and the transformer's encoder against PyTorch: results, weights and all gradients, in both precisions."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import nn
from gpunet.testing.compare import assert_agreement
from gpunet.testing.parity import Case, case, check_case

# PyTorch warns of one mask of bools and one of floats, and of masks in evaluation.
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:Support for mismatched")]
torch = pytest.importorskip("torch")

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
BATCH, QUERIES, KEYS, SIZE, HEADS = 3, 4, 5, 8, 2
MASKS = ("none", "bool", "bool of each head", "float", "float of each head", "causal")
PADDINGS = ("none", "bool", "float")


def masks(kind: str, padding: str, dtype: str, batched: bool = True) -> dict[str, Any]:
    """Masks as arrays; every query has a key to look at."""
    rng = np.random.default_rng(5)
    shape = ((BATCH if batched else 1) * HEADS, QUERIES, KEYS) if kind.endswith("head") else (QUERIES, KEYS)
    attn_mask: Any = None
    if kind == "causal":
        attn_mask = np.triu(np.ones((QUERIES, KEYS), bool), 1)
    elif kind.startswith("bool"):
        attn_mask = rng.random(shape) < 0.3
        attn_mask[..., 0] = False
    elif kind.startswith("float"):
        attn_mask = rng.standard_normal(shape).astype(dtype)
    pad: Any = None
    if padding == "bool":
        pad = np.arange(KEYS) >= np.array([[5], [4], [2]])
    elif padding == "float":
        pad = rng.standard_normal((BATCH, KEYS)).astype(dtype)
    return {"attn_mask": attn_mask, "key_padding_mask": pad if batched or pad is None else pad[1]}


def numbers(module: Any, results: list[Any], leaves: list[Any]) -> list[np.ndarray]:
    """Results, and the gradients of a loss that tells all of them apart."""
    rng = np.random.default_rng(3)
    loss = 0
    for result in results:
        factor = module.from_numpy(rng.standard_normal(tuple(result.shape)).astype(str(result.dtype).split(".")[-1]))
        loss = loss + (result * factor).sum()
    loss.backward()
    return [value.detach().numpy() for value in (*results, *(leaf.grad for leaf in leaves))]


def agree(ours: list[np.ndarray], theirs: list[np.ndarray], dtype: str, label: str) -> None:
    for place, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a.dtype == b.dtype == dtype
        assert_agreement(a, b, dtype, label=f"{label}, value {place}")


def give_weights(ours: Any, theirs: Any) -> None:
    """Copy a PyTorch module's parameters, none of them zero, into ours, and see that PyTorch takes them back."""
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    assert [tuple(value.shape) for value in ours.state_dict().values()] == [tuple(v.shape) for v in state.values()]
    ours.load_state_dict({name: value.numpy() for name, value in state.items()})
    back = {name: torch.from_numpy(value.numpy()) for name, value in ours.state_dict().items()}
    theirs.load_state_dict(back)


def attend(module: Any, layer: Any, arrays: list[np.ndarray], given: dict[str, Any], **options: Any) -> Any:
    inputs = [module.from_numpy(array.copy()).requires_grad_() for array in arrays]
    tensors = {name: None if value is None else module.from_numpy(value.copy()) for name, value in given.items()}
    learned = [mask.requires_grad_() for mask in tensors.values() if mask is not None and mask.is_floating_point()]
    layer.zero_grad()
    output, weights = layer(*inputs, **tensors, **options)
    results = [output] if weights is None else [output, weights]
    return numbers(module, results, [*inputs, *layer.parameters(), *learned])


@DTYPES
@pytest.mark.parametrize("zero_attn", [False, True], ids=["", "zero_attn"])
@pytest.mark.parametrize("bias_kv", [False, True], ids=["", "bias_kv"])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 3}, {"kdim": 3, "vdim": 5}], ids=str)
@pytest.mark.parametrize("batch_first", [False, True], ids=["length first", "batch first"])
def test_attention(batch_first: bool, sizes: dict[str, int], bias_kv: bool, zero_attn: bool, dtype: str) -> None:
    """B88: every combination of masks, with and without weights."""
    options = {**sizes, "batch_first": batch_first, "add_bias_kv": bias_kv, "add_zero_attn": zero_attn}
    rng = np.random.default_rng(1)
    widths = (SIZE, sizes.get("kdim", SIZE), sizes.get("vdim", SIZE))
    for place, (kind, padding) in enumerate(itertools.product(MASKS, PADDINGS)):
        options["bias"] = bool(place % 3)
        theirs = torch.nn.MultiheadAttention(SIZE, HEADS, dtype=getattr(torch, dtype), **options)
        ours = nn.MultiheadAttention(SIZE, HEADS, dtype=dtype, **options)
        give_weights(ours, theirs)
        lengths = (QUERIES, KEYS, KEYS)
        arrays = [
            rng.standard_normal((BATCH, n, width) if batch_first else (n, BATCH, width)).astype(dtype)
            for n, width in zip(lengths, widths, strict=True)
        ]
        call = {"need_weights": place % 4 != 1, "average_attn_weights": place % 4 != 2, "is_causal": kind == "causal"}
        given = masks(kind, padding, dtype)
        found, expected = (attend(m, layer, arrays, given, **call) for m, layer in ((gn, ours), (torch, theirs)))
        agree(found, expected, dtype, f"{kind}, {padding}, {call}")


@DTYPES
@pytest.mark.parametrize("kind", MASKS)
def test_attention_without_a_batch(kind: str, dtype: str) -> None:
    theirs = torch.nn.MultiheadAttention(SIZE, HEADS, dtype=getattr(torch, dtype), batch_first=True)
    ours = nn.MultiheadAttention(SIZE, HEADS, dtype=dtype, batch_first=True)
    give_weights(ours, theirs)
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal((n, SIZE)).astype(dtype) for n in (QUERIES, KEYS, KEYS)]
    for padding, average in itertools.product(PADDINGS, (False, True)):
        given = masks(kind, padding, dtype, batched=False)
        found, expected = (
            attend(m, layer, arrays, given, average_attn_weights=average) for m, layer in ((gn, ours), (torch, theirs))
        )
        agree(found, expected, dtype, f"{padding}, {average}")


@DTYPES
@pytest.mark.parametrize("shared", ["all", "key and value", "query and key"])
def test_the_same_tensor_given_twice(shared: str, dtype: str) -> None:
    """Self-attention takes its three projections as one product; the gradient is the sum over what is shared."""
    theirs = torch.nn.MultiheadAttention(SIZE, HEADS, dtype=getattr(torch, dtype))
    ours = nn.MultiheadAttention(SIZE, HEADS, dtype=dtype)
    give_weights(ours, theirs)
    rng = np.random.default_rng(1)
    first, second = (rng.standard_normal((KEYS, BATCH, SIZE)).astype(dtype) for _ in range(2))
    outcomes = []
    for module, layer in ((gn, ours), (torch, theirs)):
        x, y = (module.from_numpy(array.copy()).requires_grad_() for array in (first, second))
        inputs = {"all": (x, x, x), "key and value": (x, y, y), "query and key": (x, x, y)}[shared]
        output, weights = layer(*inputs)
        leaves = [x, *([] if shared == "all" else [y]), *layer.parameters()]
        outcomes.append(numbers(module, [output, weights], leaves))
    agree(*outcomes, dtype, shared)


@DTYPES
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_encoder(activation: str, norm_first: bool, train: bool, dtype: str) -> None:
    """B89: the layer alone, and two with a norm behind them, over masks."""
    rng = np.random.default_rng(1)
    kinds = itertools.product((False, True), (False, True), ("none", "bool", "float"))
    for place, (batch_first, causal, padding) in enumerate(kinds):
        pair, bias = [], place % 4 < 2
        for module in (gn, torch):
            layer = module.nn.TransformerEncoderLayer(
                SIZE,
                HEADS,
                10,
                dropout=0.0,
                activation=module.tanh if activation == "tanh" else activation,
                layer_norm_eps=1e-4,
                batch_first=batch_first,
                norm_first=norm_first,
                bias=bias,
                dtype=getattr(module, dtype),
            )
            if place % 2:
                layer = module.nn.TransformerEncoder(
                    layer, 2, module.nn.LayerNorm(SIZE, dtype=getattr(module, dtype)), enable_nested_tensor=False
                )
            pair.append(layer.train(train))
        give_weights(*pair)
        given = masks("none", padding, dtype)["key_padding_mask"]
        x = rng.standard_normal((BATCH, KEYS, SIZE) if batch_first else (KEYS, BATCH, SIZE)).astype(dtype)
        mask = np.triu(np.ones((KEYS, KEYS), bool), 1) if causal else None
        outcomes = []
        for module, layer in zip((gn, torch), pair, strict=True):
            source = module.from_numpy(x.copy()).requires_grad_()
            masked, padded = (None if m is None else module.from_numpy(m.copy()) for m in (mask, given))
            output = layer(source, masked, src_key_padding_mask=padded, is_causal=causal)
            outcomes.append(numbers(module, [output], [source, *layer.parameters()]))
        agree(*outcomes, dtype, f"{batch_first}, {causal}, {padding}")


@pytest.mark.parametrize("options", [{}, {"kdim": 3, "vdim": 5}, {"add_bias_kv": True}, {"bias": False}], ids=str)
def test_initialisation(options: dict[str, Any]) -> None:
    """The same parameters, from the same distributions: uniform up to the same bound, normal, or zero."""
    ours, theirs = nn.MultiheadAttention(64, 4, **options), torch.nn.MultiheadAttention(64, 4, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        found, expected = a.numpy(), b.numpy()
        assert found.shape == expected.shape
        if not expected.any():
            assert not found.any(), name
        elif name in ("bias_k", "bias_v"):
            assert 0.6 < found.std() / np.sqrt(2 / (64 + 64)) < 1.4, name
        else:
            assert abs(np.abs(found).max() / np.abs(expected).max() - 1) < 0.05, name
            assert abs(found.std() / expected.std() - 1) < 0.1, name


@pytest.mark.parametrize("name", ["MultiheadAttention", "TransformerEncoderLayer", "TransformerEncoder"])
def test_signatures(name: str) -> None:
    """Names, order and defaults of the arguments; gpunet's own come after them, by keyword."""
    for method in ("__init__", "forward"):
        ours, theirs = (inspect.signature(getattr(getattr(m.nn, name), method)) for m in (gn, torch))
        taken = [p for p in ours.parameters.values() if p.kind is not p.KEYWORD_ONLY]
        assert [p.name for p in taken] == list(theirs.parameters)
        for ours_one, theirs_one in zip(taken, theirs.parameters.values(), strict=True):
            if not callable(theirs_one.default) or theirs_one.default is inspect.Parameter.empty:
                assert ours_one.default == theirs_one.default


def test_signature_of_the_function() -> None:
    ours, theirs = (inspect.signature(m.nn.functional.multi_head_attention_forward) for m in (gn, torch))
    assert [(p.name, p.default) for p in ours.parameters.values()] == [
        (p.name, p.default) for p in theirs.parameters.values()
    ]


def as_function(m: Any, q: Any, k: Any, v: Any, w: Any, b: Any, o: Any, c: Any, **options: Any) -> Any:
    extra = [options.pop("bias_k", None), options.pop("bias_v", None), options.pop("add_zero_attn", False)]
    dropout_p = options.pop("dropout_p", 0.0)
    try:
        return m.nn.functional.multi_head_attention_forward(q, k, v, 4, 2, w, b, *extra, dropout_p, o, c, **options)
    except AssertionError as error:  # how PyTorch refuses
        raise ValueError(str(error)) from None


NAME = "multi_head_attention_forward"
WEIGHTS: tuple[Any, ...] = ((12, 4), (12,), (4, 4), (4,))
SEQUENCES: tuple[Any, ...] = ((3, 2, 4), (5, 2, 4), (5, 2, 4))
HIDDEN = np.zeros((3, 5), bool)
HIDDEN[1] = True
# Another number of values than of keys is not tried: PyTorch reads beyond the arrays, and the process ends.
SDPA = "scaled_dot_product_attention"
QKV: tuple[Any, ...] = ((2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 7))
LOOK = np.tril(np.ones((4, 5), bool))
NOWHERE = LOOK.copy()
NOWHERE[2] = False


def dot(label: str, *inputs: Any, **options: Any) -> Case:
    def run(m: Any, q: Any, k: Any, v: Any, *mask: Any) -> Any:
        return m.nn.functional.scaled_dot_product_attention(q, k, v, *mask, **options)

    return case(f"{SDPA} {label}", run, *inputs)


# fmt: off
CASES = [
    case(f"{NAME} plain", as_function, *SEQUENCES, *WEIGHTS),
    case(f"{NAME} without a batch", as_function, (3, 4), (5, 4), (5, 4), *WEIGHTS),
    case(f"{NAME} no keys", as_function, (3, 2, 4), (0, 2, 4), (0, 2, 4), *WEIGHTS),
    dot("no keys", (2, 3, 4, 6), (2, 3, 0, 6), (2, 3, 0, 7)),
    case(f"{NAME} no weights", lambda m, *t: as_function(m, *t, need_weights=False), *SEQUENCES, *WEIGHTS),
    case(f"{NAME} weights of each head", lambda m, *t: as_function(m, *t, average_attn_weights=False), *SEQUENCES,
         *WEIGHTS),
    case(f"{NAME} evaluation", lambda m, *t: as_function(m, *t, training=False, dropout_p=0.5), *SEQUENCES, *WEIGHTS),
    case(f"{NAME} extra keys",
         lambda m, *t: as_function(m, *t[:-2], bias_k=t[-2], bias_v=t[-1], add_zero_attn=True),
         *SEQUENCES, *WEIGHTS, (1, 1, 4), (1, 1, 4)),
    case(f"{NAME} separate weights",
         lambda m, q, k, v, wq, wk, wv, b, o, c: as_function(
             m, q, k, v, None, b, o, c, use_separate_proj_weight=True, q_proj_weight=wq, k_proj_weight=wk,
             v_proj_weight=wv),
         (3, 2, 4), (5, 2, 3), (5, 2, 6), (4, 4), (4, 3), (4, 6), (12,), (4, 4), (4,)),
    case(f"{NAME} static",
         lambda m, *t: as_function(m, *t[:-2], static_k=t[-2], static_v=t[-1])[0], *SEQUENCES, *WEIGHTS, (4, 5, 2),
         (4, 5, 2)),
    case(f"{NAME} mask of float64", lambda m, *t: as_function(m, *t[:-1], attn_mask=t[-1].double()), *SEQUENCES,
         *WEIGHTS, (3, 5)),
    case(f"{NAME} number of values", as_function, (3, 2, 4), (5, 2, 4), (6, 2, 4), *WEIGHTS),
    case(f"{NAME} batches", as_function, (3, 2, 4), (5, 1, 4), (5, 1, 4), *WEIGHTS),
    case(f"{NAME} empty batch", as_function, (3, 0, 4), (5, 0, 4), (5, 0, 4), *WEIGHTS),
    case(f"{NAME} no queries", as_function, (0, 2, 4), (5, 2, 4), (5, 2, 4), *WEIGHTS),
    case(f"{NAME} hidden query", lambda m, *t: as_function(m, *t[:-1], attn_mask=t[-1]), *SEQUENCES, *WEIGHTS, HIDDEN),
    case(f"{NAME} hidden query, no weights",
         lambda m, *t: as_function(m, *t[:-1], attn_mask=t[-1], need_weights=False), *SEQUENCES, *WEIGHTS, HIDDEN),
    dot("plain", *QKV),
    dot("matrices", (4, 6), (5, 6), (5, 7)),
    dot("vectors", (6,), (5, 6), (5, 7)),
    dot("broadcast", (2, 3, 4, 6), (1, 3, 5, 6), (2, 1, 5, 7)),
    dot("causal", *QKV, is_causal=True),
    dot("causal wide", (2, 5, 6), (2, 4, 6), (2, 4, 6), is_causal=True),
    dot("scale", *QKV, scale=0.3),
    dot("bool mask", *QKV, LOOK),
    dot("bool mask of each", *QKV, np.random.default_rng(0).random((2, 1, 4, 5)) < 0.7),
    dot("float mask", *QKV, (4, 5)),
    dot("float mask of each head", *QKV, (2, 3, 4, 5)),
    case(f"{SDPA} mask of a column",  # the same for all keys, it changes nothing, and has no gradient
         lambda m, q, k, v, mask: m.nn.functional.scaled_dot_product_attention(q, k, v, mask.detach()), *QKV, (4, 1)),
    dot("hidden query", *QKV, NOWHERE),
    dot("hidden by floats", *QKV, np.where(NOWHERE, 0.0, -np.inf)),
    dot("mask and causal", *QKV, LOOK, is_causal=True),
    dot("integer mask", *QKV, LOOK.astype(np.int64)),
    dot("mask of another shape", *QKV, LOOK[:3]),
    dot("shared heads", (2, 6, 4, 6), (2, 3, 5, 6), (2, 3, 5, 7), enable_gqa=True),
    dot("heads that cannot share", (2, 4, 4, 6), (2, 3, 5, 6), (2, 3, 5, 7), enable_gqa=True),
    dot("number of features", (2, 4, 6), (2, 5, 7), (2, 5, 7)),
    dot("integers", np.ones((4, 6), np.int64), np.ones((5, 6), np.int64), np.ones((5, 6), np.int64)),
]
# fmt: on


@pytest.mark.parametrize("checked", CASES, ids=repr)
def test_function(checked: Case) -> None:
    check_case(checked)


# Whole numbers, of which a product with 0.1 is float32 that asks for no gradient; the labels of these cases are noted
# for all that they call, so they call little.
WHOLE = np.random.default_rng(0).integers(-20, 20, (2, 3, 4))
LAST = np.array([[False, False, False], [False, False, True]])


def encoder_of(m: Any) -> Any:
    layer = m.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    return m.nn.TransformerEncoder(layer, 1).eval().requires_grad_(False)


OWN = [
    case("TransformerEncoder need_weights", lambda m, x: encoder_of(m)(x * 0.1, need_weights=True)[1], WHOLE),
    case(
        "TransformerEncoderLayer need_weights",
        lambda m, x: encoder_of(m).layers[0](x * 0.1, need_weights=True, average_attn_weights=False)[1],
        WHOLE,
    ),
    case(
        "TransformerEncoder padding in evaluation",
        lambda m, x, padding: encoder_of(m)(x * 0.1, src_key_padding_mask=padding)[1, 2] == 0,
        WHOLE,
        LAST,
    ),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("checked", OWN, ids=repr)
def test_gpunets_own(checked: Case) -> None:
    check_case(checked)


@pytest.mark.filterwarnings("ignore")
def test_what_is_no_padding_is_the_same_in_evaluation() -> None:
    """Where PyTorch takes its nested tensors all positions but the padding are the same."""
    ours, theirs = encoder_of(gn), encoder_of(torch)
    give_weights(ours, theirs)
    outputs = [
        layer(m.from_numpy(WHOLE) * 0.1, src_key_padding_mask=m.from_numpy(LAST)).numpy()
        for m, layer in ((gn, ours), (torch, theirs))
    ]
    assert not outputs[1][LAST].any()
    assert_agreement(*(output[~LAST] for output in outputs), "float32")


def test_weights_with_dropout_are_those_that_were_used() -> None:
    """As in PyTorch: dropped ones are 0, the others divided by 1 - p, and the output is their product."""
    layer = nn.MultiheadAttention(4, 1, dropout=0.5, bias=False)
    x = gn.randn(6, 1, 4)
    output, weights = layer(x, x, x)
    assert weights is not None
    used = weights.detach().numpy()[0]
    assert 0 < (used == 0).mean() < 1
    value = x.detach().numpy()[:, 0] @ layer.in_proj_weight.detach().numpy()[8:].T
    np.testing.assert_allclose(
        output.detach().numpy()[:, 0], used @ value @ layer.out_proj.weight.detach().numpy().T, rtol=1e-4, atol=1e-6
    )
    both = F.dropout(gn.ones(1), 0.5)
    assert both.item() in (0.0, 2.0)
