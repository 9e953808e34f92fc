"""Attention and the encoder: the facts of the reference's rows, gradients against differences, and the weights."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import ShapeError, nn
from gpunet.autograd.gradcheck import gradcheck
from gpunet.inspect import count_params, explain_params, summary


def draw(*shape: int, seed: int = 0) -> gn.Tensor:
    return gn.tensor(np.random.default_rng(seed).standard_normal(shape))


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_b88_queries_may_be_more_or_fewer_than_keys() -> None:
    """B88: Q (n_q), K and V (n_k): scores n_q x n_k, and n_q rows of output."""
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    for n_q, n_k in ((3, 5), (5, 3), (1, 7)):
        output, weights = layer(gn.randn(2, n_q, 8), gn.randn(2, n_k, 8), gn.randn(2, n_k, 8))
        assert tuple(output.shape) == (2, n_q, 8)
        assert weights is not None
        assert tuple(weights.shape) == (2, n_q, n_k)


def test_b88_there_is_a_value_for_each_key() -> None:
    """B88: n_k != n_v raises."""
    text = "multi_head_attention_forward: there must be a value for each key, got 5 keys and 6 values"
    for batch_first in (False, True):
        layer = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        q, k, v = (gn.randn(*((2, n, 8) if batch_first else (n, 2, 8))) for n in (3, 5, 6))
        with pytest.raises(ShapeError) as caught:
            layer(q, k, v)
        assert str(caught.value).startswith(text)


def test_b88_a_query_of_zero_looks_everywhere_alike() -> None:
    """B88: Q = 0 gives uniform weights, and the output is the mean of the values."""
    weights = None
    layer = nn.MultiheadAttention(8, 2)
    output, weights = layer(gn.zeros(3, 1, 8), *[x := gn.randn(5, 1, 8)] * 2)
    assert weights is not None
    np.testing.assert_allclose(weights.detach().numpy(), 1 / 5, rtol=1e-6)
    assert layer.in_proj_weight is not None
    values = x.numpy()[:, 0] @ layer.in_proj_weight.detach().numpy()[16:].T
    expected = values.mean(0) @ layer.out_proj.weight.detach().numpy().T
    np.testing.assert_allclose(output.detach().numpy()[:, 0], np.tile(expected, (3, 1)), rtol=1e-4, atol=1e-6)
    value = draw(5, 3)
    attended = F.scaled_dot_product_attention(gn.zeros(2, 4, dtype=gn.float64), draw(5, 4, seed=1), value)
    np.testing.assert_allclose(attended.numpy(), np.tile(value.numpy().mean(0), (2, 1)), rtol=1e-12)


def test_b88_parameters_of_512_features() -> None:
    """B88: d = 512 has 1,050,624 parameters, whatever the number of heads: 4 (512 * 512 + 512)."""
    for heads in (1, 8):
        assert count_params(nn.MultiheadAttention(512, heads)) == 1_050_624
    found = explain_params(nn.MultiheadAttention(512, 8))
    assert (found.weights, found.biases) == (4 * 512 * 512, 4 * 512)


def test_b88_by_hand() -> None:
    """B88: softmax(Q K^T / sqrt(d)) V of each head, joined and projected, written out in NumPy."""
    layer = nn.MultiheadAttention(6, 2, dtype=gn.float64)
    state = {name: value.numpy() for name, value in layer.state_dict().items()}
    q, k, v = draw(4, 6), draw(5, 6, seed=1), draw(5, 6, seed=2)
    projected = [x.numpy() @ w.T for x, w in zip((q, k, v), np.split(state["in_proj_weight"], 3), strict=True)]
    parts, by_head = [], []
    for head in (slice(0, 3), slice(3, 6)):
        a, b, c = (x[:, head] for x in projected)
        by_head.append(softmax(a @ b.T / math.sqrt(3)))
        parts.append(by_head[-1] @ c)
    output, weights = layer(q, k, v, average_attn_weights=False)
    np.testing.assert_allclose(output.detach().numpy(), np.concatenate(parts, 1) @ state["out_proj.weight"].T)
    assert weights is not None
    np.testing.assert_allclose(weights.detach().numpy(), np.stack(by_head))
    mean = layer(q, k, v)[1]
    assert mean is not None
    np.testing.assert_allclose(mean.detach().numpy(), np.mean(by_head, 0))


def test_b89_rows_of_weights_sum_to_one() -> None:
    """B89: the softmax runs over the keys: rows sum to 1 on that axis, and columns do not."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 3)
    mask = gn.ones(6, 6, dtype=gn.bool).triu(1)
    padding = gn.tensor([[False] * 6, [False] * 4 + [True] * 2])
    encoder.eval()
    for average, shape in ((True, (2, 6, 6)), (False, (2, 2, 6, 6))):
        output, attentions = encoder(gn.randn(2, 6, 8), mask, padding, need_weights=True, average_attn_weights=average)
        assert tuple(output.shape) == (2, 6, 8)
        assert len(attentions) == 3
        for weights in attentions:
            found = weights.detach().numpy()
            assert found.shape == shape
            np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
            assert abs(found.sum(-2) - 1).max() > 0.1
            assert (found * mask.numpy() == 0).all()
            assert (found[1, ..., 4:] == 0).all()


def test_b89_the_residual_is_added_before_the_norm() -> None:
    """B89: post-norm is norm(x + MHA(x)); pre-norm is x + MHA(norm(x)), and leaves x itself in the sum."""
    x = draw(2, 5, 8)
    for norm_first in (False, True):
        layer = nn.TransformerEncoderLayer(
            8, 2, 16, dropout=0.0, batch_first=True, norm_first=norm_first, dtype=gn.float64
        )

        def fed(y: gn.Tensor, layer: Any = layer) -> gn.Tensor:
            return layer.linear2(F.relu(layer.linear1(y)))

        if norm_first:
            inner = layer.norm1(x)
            middle = x + layer.self_attn(inner, inner, inner)[0]
            expected = middle + fed(layer.norm2(middle))
        else:
            middle = layer.norm1(x + layer.self_attn(x, x, x)[0])
            expected = layer.norm2(middle + fed(middle))
        np.testing.assert_allclose(layer(x).detach().numpy(), expected.detach().numpy(), rtol=1e-12)
        nothing = copy.deepcopy(layer)
        for parameter in (nothing.self_attn.out_proj.weight, nothing.linear2.weight, nothing.linear2.bias):
            parameter.data.zero_()
        passed = nothing(x).detach().numpy()
        if norm_first:
            np.testing.assert_array_equal(passed, x.numpy())
        else:  # normalised twice
            np.testing.assert_allclose(passed, F.layer_norm(x, (8,)).numpy(), atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"kdim": 3, "vdim": 5}, {"add_bias_kv": True, "add_zero_attn": True}], ids=str)
def test_gradients_of_attention(options: dict[str, Any]) -> None:
    layer = nn.MultiheadAttention(4, 2, dtype=gn.float64, **options)
    q, k, v = (
        draw(n, 2, width, seed=n).requires_grad_()
        for n, width in ((3, 4), (5, options.get("kdim", 4)), (5, options.get("vdim", 4)))
    )
    mask = draw(3, 5, seed=9).requires_grad_()
    padding = gn.tensor([[False] * 5, [False] * 3 + [True] * 2])
    assert gradcheck(
        lambda a, b, c, m: layer(a, b, c, key_padding_mask=padding, attn_mask=m),
        (q, k, v, mask),
        parameters=list(layer.parameters()),
    )


@pytest.mark.parametrize("norm_first", [False, True])
def test_gradients_of_the_encoder(norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, activation="gelu", norm_first=norm_first, dtype=gn.float64)
    encoder = nn.TransformerEncoder(layer, 2)
    for parameter in encoder.parameters():
        parameter.data.copy_(parameter.data + 0.1 * draw(*parameter.shape, seed=parameter.numel()))
    mask = gn.ones(3, 3, dtype=gn.bool).triu(1)
    x = draw(3, 2, 4).requires_grad_()
    assert gradcheck(lambda y: encoder(y, mask), (x,), parameters=list(encoder.parameters()), max_elements=12)


def test_gradients_of_scaled_dot_product_attention() -> None:
    q, k, v = (draw(2, 3, n, 4, seed=n).requires_grad_() for n in (3, 5, 5))
    hidden = gn.ones(3, 5, dtype=gn.bool)
    hidden[1] = False
    for options in ({}, {"is_causal": True}, {"scale": 0.7}, {"attn_mask": hidden}):
        assert gradcheck(
            lambda a, b, c, options=options: F.scaled_dot_product_attention(a, b, c, **options),
            (q, k, v),
            max_elements=15,
        )


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("of_bools", [False, True])
def test_a_query_without_keys_attends_to_nothing(of_bools: bool, need_weights: bool) -> None:
    """No NaN: weights of 0, an output of the last bias alone, and gradients that the other queries alone have."""
    layer = nn.MultiheadAttention(4, 2, dtype=gn.float64)
    assert layer.out_proj.bias is not None
    layer.out_proj.bias.data.fill_(0.25)
    q, k = draw(3, 4).requires_grad_(), draw(5, 4, seed=1)
    hidden = gn.zeros(3, 5, dtype=gn.bool)
    hidden[1] = True
    mask = hidden if of_bools else gn.zeros(3, 5, dtype=gn.float64).masked_fill(hidden, -math.inf)
    output, weights = layer(q, k, k, attn_mask=mask, need_weights=need_weights)
    np.testing.assert_array_equal(output.detach().numpy()[1], 0.25)
    if need_weights:
        assert weights is not None
        np.testing.assert_allclose(weights.detach().numpy().sum(-1), [1, 0, 1])
    (output**2).sum().backward()
    assert q.grad is not None
    assert np.isfinite(q.grad.numpy()).all()
    assert (q.grad.numpy()[1] == 0).all()
    assert (q.grad.numpy()[[0, 2]] != 0).all()


def test_padding_changes_nothing_else() -> None:
    """A sample with padding behind it is the sample alone."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval().double()
    x = draw(2, 5, 8)
    padding = gn.tensor([[False] * 5, [False] * 3 + [True] * 2])
    together = encoder(x, src_key_padding_mask=padding).detach().numpy()
    alone = encoder(x[1:, :3]).detach().numpy()
    np.testing.assert_allclose(together[1, :3], alone[0], rtol=1e-9, atol=1e-12)


def test_a_causal_mask_hides_what_comes_later() -> None:
    x = draw(6, 1, 8)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dtype=gn.float64).eval()
    mask = gn.ones(6, 6, dtype=gn.bool).triu(1)
    before = layer(x, mask, is_causal=True).detach().numpy()
    x[4:] += 1.0
    after = layer(x, mask, is_causal=True).detach().numpy()
    np.testing.assert_array_equal(before[:4], after[:4])
    assert (before[4:] != after[4:]).any(-1).all()


def test_order_is_not_seen_without_positions() -> None:
    """Attention is a sum over the keys: permuting the input permutes the output."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dtype=gn.float64).eval()
    x, order = draw(2, 6, 8), [3, 0, 5, 1, 4, 2]
    np.testing.assert_allclose(layer(x[:, order]).detach().numpy(), layer(x).detach().numpy()[:, order], rtol=1e-9)


def test_the_same_seed_drops_the_same() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5)
    x = gn.randn(5, 2, 8)
    outputs = []
    for seed in (1, 1, 2):
        gn.manual_seed(seed)
        outputs.append(layer(x).detach().numpy())
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert (outputs[0] != outputs[2]).any()


@pytest.mark.parametrize("activation", ["relu", "gelu", F.silu, gn.tanh])
def test_an_encoder_crosses_to_another_process(activation: Any) -> None:
    """With its weights and its activation, as workers that are spawned need it."""
    layer = nn.TransformerEncoderLayer(4, 2, 8, activation=activation).eval()
    there = pickle.loads(pickle.dumps(layer))  # noqa: S301 (ours)
    x = gn.randn(3, 2, 4)
    np.testing.assert_array_equal(layer(x).detach().numpy(), there(x).detach().numpy())


def test_layers_of_an_encoder_start_alike_and_are_their_own() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8)
    encoder = nn.TransformerEncoder(layer, 2)
    first, second = encoder.layers[0].linear1.weight, encoder.layers[1].linear1.weight
    np.testing.assert_array_equal(first.detach().numpy(), second.detach().numpy())
    first.data.zero_()
    assert second.detach().numpy().any()
    assert layer.linear1.weight.detach().numpy().any()


def test_summary_of_an_encoder() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(512, 8, batch_first=True), 1)
    found = summary(encoder, (10, 512))
    # 4 (512^2 + 512) of attention, the two layers between, and two norms.
    assert found.total_params == 1_050_624 + (512 * 2048 + 2048) + (2048 * 512 + 512) + 2 * 1024
    # 10 positions through the matrices, and two products of 10 x 64 by 64 x 10 for each of 8 heads.
    assert found.total_macs == 10 * (4 * 512 * 512 + 2 * 512 * 2048) + 2 * 8 * 10 * 10 * 64
    assert not found.uncalled


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dtype_and_device_of_the_results(dtype: str) -> None:
    layer = nn.MultiheadAttention(4, 2, add_bias_kv=True, add_zero_attn=True).to(dtype)
    x = gn.randn(3, 2, 4).to(dtype)
    output, weights = layer(x, x, x)
    assert weights is not None
    assert output.dtype == weights.dtype == np.dtype(dtype)
    on_meta = layer.to("meta")(
        x.to("meta"), x.to("meta"), x.to("meta"), key_padding_mask=gn.zeros(2, 3, dtype=gn.bool, device="meta")
    )
    assert [tuple(one.shape) for one in on_meta] == [(3, 2, 4), (2, 3, 5)]
    assert all(one.is_meta for one in on_meta)


@pytest.mark.parametrize("need_weights", [True, False])
def test_without_keys_all_is_zero(need_weights: bool) -> None:
    """A mean over nothing: zeros, as of a query that may look nowhere; the last projection adds its bias."""
    found = F.scaled_dot_product_attention(gn.ones(2, 3, 4), gn.ones(2, 0, 4), gn.ones(2, 0, 5))
    assert (tuple(found.shape), found.abs().sum().item()) == ((2, 3, 5), 0)
    layer = nn.MultiheadAttention(4, 2)
    with gn.no_grad():
        layer.out_proj.bias.copy_(gn.tensor([1.0, 2.0, 3.0, 4.0]))
    nothing = gn.ones(0, 2, 4)
    output, weights = layer(gn.ones(3, 2, 4), nothing, nothing, need_weights=need_weights)
    assert output.tolist() == [[[1, 2, 3, 4]] * 2] * 3
    assert weights is None if not need_weights else tuple(weights.shape) == (2, 3, 0)
