"""Bad input to attention, the transformer's encoder and mixture density networks: one clear error each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import gpunet as gn
import gpunet.nn.functional as F
from gpunet import DTypeError, ShapeError, nn
from gpunet.testing.bad_input import DEVICES, BadInput

NAME = "multi_head_attention_forward"


def attend(z: Any, on: Any, *shapes: tuple[int, ...], sizes: Any = (4, 2), masks: Any = None, **options: Any) -> Any:
    """Attention of 4 features and 2 heads: ``masks`` by name, each a shape and a dtype."""
    layer = on(nn.MultiheadAttention(*sizes, **options))
    given = {name: z(*shape, dtype=dtype) for name, (shape, dtype) in (masks or {}).items()}
    return layer(*(z(*shape) for shape in shapes), **given)


def function(z: Any, q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], *args: Any, **options: Any) -> Any:
    return F.scaled_dot_product_attention(z(*q), z(*k), z(*v), *args, **options)


def heads(z: Any, **options: Any) -> Any:
    defaults: dict[str, Any] = {
        "embed_dim_to_check": 4, "num_heads": 2, "in_proj_weight": z(12, 4), "in_proj_bias": z(12), "bias_k": None,
        "bias_v": None, "add_zero_attn": False, "dropout_p": 0.0, "out_proj_weight": z(4, 4), "out_proj_bias": z(4),
    }  # fmt: skip
    return F.multi_head_attention_forward(z(3, 2, 4), z(5, 2, 4), z(5, 2, 4), **{**defaults, **options})


Q, K = (3, 2, 4), (5, 2, 4)
ENTRIES: list[tuple[str, Callable[[Any, Any], Any], type[Exception], str]] = [
    ("number of values", lambda z, on: attend(z, on, Q, K, (6, 2, 4)),
     ShapeError, f"{NAME}: there must be a value for each key, got 5 keys and 6 values"),
    ("number of values, batch first", lambda z, on: attend(z, on, (2, 3, 4), (2, 5, 4), (2, 6, 4), batch_first=True),
     ShapeError, f"{NAME}: there must be a value for each key, got 5 keys and 6 values"),
    ("batches", lambda z, on: attend(z, on, Q, (5, 1, 4), (5, 1, 4)),
     ShapeError, f"{NAME}: query, key and value must be of one batch, got sizes [2, 1, 1]"),
    ("dimensions", lambda z, on: attend(z, on, (2, 3, 2, 4), K, K),
     ShapeError, f"{NAME}: query must have 2 or 3 dimensions, got shape (2, 3, 2, 4)"),
    ("dimensions of the key", lambda z, on: attend(z, on, (3, 4), K, K),
     ShapeError, f"{NAME}: key must have 2 dimensions as the query has, got shape (5, 2, 4)"),
    ("features", lambda z, on: attend(z, on, (3, 2, 5), K, K),
     ShapeError, f"{NAME}: query must have 4 features, got shape (3, 2, 5)"),
    ("features of the key", lambda z, on: attend(z, on, Q, K, K, kdim=3),
     ShapeError, f"{NAME}: key must have 3 features, got shape (5, 2, 4)"),
    ("integers", lambda z, on: on(nn.MultiheadAttention(4, 2))(*[z(3, 2, 4, dtype=gn.int64)] * 3),
     DTypeError, f"{NAME}: query must be floating point, got int64"),
    ("dtypes", lambda z, on: on(nn.MultiheadAttention(4, 2))(z(*Q), *[z(*K, dtype=gn.float64)] * 2),
     DTypeError, f"{NAME}: key has dtype float64, but query has float32; they must be the same"),
    ("list", lambda z, on: on(nn.MultiheadAttention(4, 2))(z(*Q), [1.0], [1.0]),
     TypeError, f"{NAME}: key must be a Tensor, got list"),
    ("mask of another shape", lambda z, on: attend(z, on, Q, K, K, masks={"attn_mask": ((5, 3), gn.bool)}),
     ShapeError, f"{NAME}: attn_mask must have shape (L, S) = (3, 5) or (N * num_heads, L, S) = (4, 3, 5), "
                 "got (5, 3)"),
    ("mask of each sample", lambda z, on: attend(z, on, Q, K, K, masks={"attn_mask": ((2, 3, 5), gn.bool)}),
     ShapeError, f"{NAME}: attn_mask must have shape (L, S) = (3, 5) or (N * num_heads, L, S) = (4, 3, 5), "
                 "got (2, 3, 5)"),
    ("mask of integers", lambda z, on: attend(z, on, Q, K, K, masks={"attn_mask": ((3, 5), gn.int64)}),
     DTypeError, f"{NAME}: attn_mask must be bool or of the query's dtype float32, got int64"),
    ("mask of float64", lambda z, on: attend(z, on, Q, K, K, masks={"key_padding_mask": ((2, 5), gn.float64)}),
     DTypeError, f"{NAME}: key_padding_mask must be bool or of the query's dtype float32, got float64"),
    ("mask as a list", lambda z, on: on(nn.MultiheadAttention(4, 2))(z(*Q), z(*K), z(*K), attn_mask=[[True]]),
     TypeError, f"{NAME}: attn_mask must be a Tensor, got list"),
    ("padding the other way round",
     lambda z, on: attend(z, on, Q, K, K, masks={"key_padding_mask": ((5, 2), gn.bool)}),
     ShapeError, f"{NAME}: key_padding_mask must have shape (N, S) = (2, 5), got (5, 2)"),
    ("padding without a batch",
     lambda z, on: attend(z, on, (3, 4), (5, 4), (5, 4), masks={"key_padding_mask": ((1, 5), gn.bool)}),
     ShapeError, f"{NAME}: key_padding_mask must have shape (S,) = (5,), got (1, 5)"),
    ("causal without a mask", lambda z, on: on(nn.MultiheadAttention(4, 2))(z(*Q), z(*K), z(*K), is_causal=True),
     ValueError, f"{NAME}: is_causal says what attn_mask is, and needs it"),
    ("heads", lambda z, on: nn.MultiheadAttention(5, 2),
     ValueError, "MultiheadAttention: embed_dim must be divisible by num_heads, got 5 and 2"),
    ("no features", lambda z, on: nn.MultiheadAttention(0, 1),
     ValueError, "MultiheadAttention: embed_dim must be at least 1, got 0"),
    ("no heads", lambda z, on: nn.MultiheadAttention(4, 0),
     ValueError, "MultiheadAttention: num_heads must be at least 1, got 0"),
    ("features as a float", lambda z, on: nn.MultiheadAttention(4.0, 2),
     TypeError, "MultiheadAttention: embed_dim must be an integer, got 4.0"),
    ("kdim", lambda z, on: nn.MultiheadAttention(4, 2, kdim=0),
     ValueError, "MultiheadAttention: kdim must be at least 1, got 0"),
    ("dropout", lambda z, on: nn.MultiheadAttention(4, 2, dropout=1.5),
     ValueError, "MultiheadAttention: dropout must be between 0 and 1, got 1.5"),
    ("dropout of nothing", lambda z, on: nn.MultiheadAttention(4, 2, dropout=None),  # type: ignore[arg-type]
     TypeError, "MultiheadAttention: dropout must be a number, got None"),
    ("function: heads", lambda z, on: heads(z, num_heads=3),
     ValueError, f"{NAME}: embed_dim must be divisible by num_heads, got 4 and 3"),
    ("function: features", lambda z, on: heads(z, embed_dim_to_check=6),
     ShapeError, f"{NAME}: query must have 6 features, got shape (3, 2, 4)"),
    ("function: dropout", lambda z, on: heads(z, dropout_p=-0.1),
     ValueError, f"{NAME}: dropout_p must lie in 0..1, got -0.1"),
    ("function: static", lambda z, on: heads(z, static_k=z(4, 5, 2), static_v=z(4, 6, 2)),
     ShapeError, f"{NAME}: static_v must have shape (4, 5, 2), got (4, 6, 2)"),
    ("dot product: vectors", lambda z, on: function(z, (4,), (5, 4), (5, 4)),
     ShapeError, "scaled_dot_product_attention: query must have at least 2 dimensions, got shape (4,)"),
    ("dot product: features", lambda z, on: function(z, (3, 4), (5, 6), (5, 4)),
     ShapeError, "scaled_dot_product_attention: key must have the query's last size 4, got shape (5, 6)"),
    ("dot product: number of values", lambda z, on: function(z, (3, 4), (5, 4), (6, 4)),
     ShapeError, "scaled_dot_product_attention: there must be a value for each of 5 keys, got 6 values"),
    ("dot product: batches", lambda z, on: function(z, (2, 3, 4), (3, 5, 4), (3, 5, 4)),
     ShapeError, "scaled_dot_product_attention: shapes (2,) and (3,) and (3,) do not broadcast: sizes 2 and 3 at "
                 "dimension -1 differ and neither is 1"),
    ("dot product: mask", lambda z, on: function(z, (3, 4), (5, 4), (5, 4), z(5, 3, dtype=gn.bool)),
     ShapeError, "scaled_dot_product_attention: attn_mask must broadcast to (3, 5), got shape (5, 3)"),
    ("dot product: more dimensions of the mask", lambda z, on: function(z, (3, 4), (5, 4), (5, 4), z(2, 3, 5)),
     ShapeError, "scaled_dot_product_attention: attn_mask must broadcast to (3, 5), got shape (2, 3, 5)"),
    ("dot product: mask of integers", lambda z, on: function(z, (3, 4), (5, 4), (5, 4), z(3, 5, dtype=gn.int64)),
     DTypeError, "scaled_dot_product_attention: attn_mask must be bool or of the query's dtype float32, got int64"),
    ("dot product: mask and causal", lambda z, on: function(z, (3, 4), (5, 4), (5, 4), z(3, 5), is_causal=True),
     ValueError, "scaled_dot_product_attention: attn_mask and is_causal exclude each other"),
    ("dot product: dropout", lambda z, on: function(z, (3, 4), (5, 4), (5, 4), dropout_p=2.0),
     ValueError, "scaled_dot_product_attention: dropout_p must lie in 0..1, got 2.0"),
    ("dot product: shared heads", lambda z, on: function(z, (4, 3, 4), (3, 5, 4), (3, 5, 4), enable_gqa=True),
     ShapeError, "scaled_dot_product_attention: enable_gqa needs key's number of heads, dimension -3, to divide the "
                 "query's, got shapes (3, 5, 4) and (4, 3, 4)"),
    ("encoder layer: heads", lambda z, on: nn.TransformerEncoderLayer(5, 2),
     ValueError, "TransformerEncoderLayer: d_model must be divisible by nhead, got 5 and 2"),
    ("encoder layer: dim_feedforward", lambda z, on: nn.TransformerEncoderLayer(4, 2, 0),
     ValueError, "TransformerEncoderLayer: dim_feedforward must be at least 1, got 0"),
    ("encoder layer: dropout", lambda z, on: nn.TransformerEncoderLayer(4, 2, dropout=-1.0),
     ValueError, "TransformerEncoderLayer: dropout must be between 0 and 1, got -1.0"),
    ("encoder layer: dropout of text", lambda z, on: nn.TransformerEncoderLayer(4, 2, dropout="a"),  # type: ignore[arg-type]
     TypeError, "TransformerEncoderLayer: dropout must be a number, got 'a'"),
    ("encoder layer: eps", lambda z, on: nn.TransformerEncoderLayer(4, 2, 8, layer_norm_eps="a"),  # type: ignore[arg-type]
     TypeError, "TransformerEncoderLayer: layer_norm_eps must be a number, got 'a'"),
    ("encoder layer: negative eps", lambda z, on: nn.TransformerEncoderLayer(4, 2, 8, layer_norm_eps=-1.0),
     ValueError, "TransformerEncoderLayer: layer_norm_eps must not be negative, got -1.0"),
    ("encoder layer: activation", lambda z, on: nn.TransformerEncoderLayer(4, 2, activation="tanh"),
     ValueError, "TransformerEncoderLayer: activation must be 'relu', 'gelu' or a function, got 'tanh'"),
    ("encoder layer: no activation", lambda z, on: nn.TransformerEncoderLayer(4, 2, activation=None),  # type: ignore[arg-type]
     TypeError, "TransformerEncoderLayer: activation must be 'relu', 'gelu' or a function, got None"),
    ("encoder layer: mask", lambda z, on: on(nn.TransformerEncoderLayer(4, 2, 8))(z(*Q), z(3, 4, dtype=gn.bool)),
     ShapeError, f"{NAME}: attn_mask must have shape (L, S) = (3, 3) or (N * num_heads, L, S) = (4, 3, 3), "
                 "got (3, 4); in layer self_attn (MultiheadAttention)"),
    ("encoder: layer", lambda z, on: nn.TransformerEncoder("layer", 2),  # type: ignore[arg-type]
     TypeError, "TransformerEncoder: encoder_layer must be a Module, got str"),
    ("encoder: another layer", lambda z, on: nn.TransformerEncoder(nn.Linear(3, 3), 2),
     TypeError, "TransformerEncoder: encoder_layer must take (src, src_mask, src_key_padding_mask, is_causal), as "
                "TransformerEncoderLayer does; Linear takes (input)"),
    ("encoder: no layers", lambda z, on: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 0),
     ValueError, "TransformerEncoder: num_layers must be at least 1, got 0"),
    ("encoder: causal", lambda z, on: on(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 1))(z(*Q), is_causal=True),
     ValueError, f"{NAME}: is_causal says what attn_mask is, and needs it"),
    ("MDN: features", lambda z, on: nn.MDN(0, 1, 2),
     ValueError, "MDN: in_features must be at least 1, got 0"),
    ("MDN: components", lambda z, on: nn.MDN(3, 1, 0),
     ValueError, "MDN: num_gaussians must be at least 1, got 0"),
    ("MDN: min_sigma", lambda z, on: nn.MDN(3, 1, 2, min_sigma=0.0),
     ValueError, "MDN: min_sigma must be positive, got 0.0"),
    ("MDN: min_sigma of text", lambda z, on: nn.MDN(3, 1, 2, min_sigma="a"),  # type: ignore[arg-type]
     TypeError, "MDN: min_sigma must be a number, got 'a'"),
    ("MDN: input", lambda z, on: on(nn.MDN(3, 1, 2))(z(5, 4)),
     ShapeError, "linear: input must have 3 features in its last dimension (weight has shape (2, 3)), got shape "
                 "(5, 4); in layer pi (Linear)"),
    ("mdn_loss: target", lambda z, on: F.mdn_loss(z(5, 2), z(5, 2, 1), z(5, 2, 1), z(5)),
     ShapeError, "mdn_loss: target must have shape (..., O) = (5, 1), got (5,)"),
    ("mdn_loss: mu", lambda z, on: F.mdn_loss(z(5, 2), z(5, 3, 1), z(5, 3, 1), z(5, 1)),
     ShapeError, "mdn_loss: mu must be (..., K, O) where log_pi is (..., K), got shapes (5, 3, 1) and (5, 2)"),
    ("mdn_loss: sigma", lambda z, on: F.mdn_loss(z(5, 2), z(5, 2, 1), z(5, 2), z(5, 1)),
     ShapeError, "mdn_loss: sigma must have mu's shape (5, 2, 1), got (5, 2)"),
    ("mdn_loss: dtypes", lambda z, on: F.mdn_loss(z(5, 2), z(5, 2, 1), z(5, 2, 1), z(5, 1, dtype=gn.float64)),
     DTypeError, "mdn_loss: target has dtype float64, but mu has float32; they must be the same"),
    ("mdn_loss: reduction", lambda z, on: F.mdn_loss(z(5, 2), z(5, 2, 1), z(5, 2, 1), z(5, 1), reduction="max"),
     ValueError, "mdn_loss: reduction must be one of 'none', 'mean', 'sum', got 'max'"),
    ("mdn_sample: integers", lambda z, on: F.mdn_sample(z(5, 2, dtype=gn.int64), z(5, 2, 1), z(5, 2, 1)),
     DTypeError, "mdn_sample: log_pi must be floating point, got int64"),
    ("mdn_sample: mu", lambda z, on: F.mdn_sample(z(5, 2), z(5, 2), z(5, 2)),
     ShapeError, "mdn_sample: mu must be (..., K, O) where log_pi is (..., K), got shapes (5, 2) and (5, 2)"),
]  # fmt: skip

CATALOGUE = [BadInput(*entry) for entry in ENTRIES]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", CATALOGUE, ids=repr)
def test_bad_input(entry: BadInput, device: str) -> None:
    entry.check(device)


def test_every_label_is_unique() -> None:
    assert len({entry.label for entry in CATALOGUE}) == len(CATALOGUE)


def test_a_refused_call_draws_nothing() -> None:
    """Errors come before dropout takes a number."""
    layer = nn.MultiheadAttention(4, 2, dropout=0.5)
    state = gn.get_rng_state()
    with pytest.raises(ShapeError):
        layer(gn.zeros(*Q), gn.zeros(*K), gn.zeros(*K), attn_mask=gn.zeros(5, 3))
    assert gn.get_rng_state() == state
