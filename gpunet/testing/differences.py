"""Where gpunet differs from PyTorch on purpose, and why: the one table of stated differences.

Each names the parity cases that show it. The parity tests insist on them: a difference that is not here fails, and so
does one that is gone.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["DIFFERENCES", "Difference", "differences_page", "stated_difference"]


class Difference(NamedTuple):
    """One stated difference.

    Attributes:
        what: what gpunet does where PyTorch does otherwise.
        reason: why.
        cases: labels of the parity cases that show it.
    """

    what: str
    reason: str
    cases: tuple[str, ...]


DIFFERENCES: Final[tuple[Difference, ...]] = (
    Difference(
        "view copies where the layout asks for it",
        "activations are physically NHWC, and x.view(n, -1) after a convolution has to work",
        ("view after transpose",),
    ),
    Difference(
        "a gradient, and the array that grad.numpy() gives of it, changes with the next backward after zero_grad",
        "its memory is the parameter's for life, so that training allocates none; clone() or .copy() keeps an old one",
        ("gradient kept as an array", "gradient kept as a tensor"),
    ),
    Difference(
        "floor division by // or floor_divide is a constant: its result requires no grad",
        "PyTorch records a gradient that it refuses to compute in backward; div(rounding_mode=) has one, of zero",
        ("floor divide",),
    ),
    Difference(
        "the remainder of a number by a tensor is differentiable in the divisor",
        "the derivative exists; PyTorch has not implemented it",
        ("scalar remainder",),
    ),
    Difference(
        "maximum, minimum and the other functions of two tensors take a number",
        "clamp does so as well; nothing is ambiguous",
        ("maximum scalar", "fmax number", "hypot number", "logical_and number", "atan2 number"),
    ),
    Difference(
        "atan2 and logaddexp of a bool and a float have a gradient",
        "the bool counts as a number, as in forward; PyTorch's backward negates the bool and fails",
        ("atan2 of bools", "logaddexp of bools"),
    ),
    Difference(
        "asinh_, acosh_ and atanh_ are differentiable",
        "as asinh, acosh and atanh are; PyTorch refuses in backward",
        (
            *(f"{name}_{more}" for name in ("asinh", "arcsinh", "atanh", "arctanh") for more in ("", " view")),
            *("acosh_", "arccosh_"),
        ),
    ),
    Difference(
        "what logical_not_, logical_and_, logical_or_ and logical_xor_ overwrite has a gradient of zero",
        "a truth value is constant; PyTorch passes the gradient on as if nothing had been written",
        ("logical_not_", "logical_not_ view", "logical_and_", "logical_or_", "logical_xor_"),
    ),
    Difference(
        "integers cannot be raised to the powers of negative integers, a tensor's either",
        "as for a number; PyTorch gives 0, 1 or -1",
        ("pow negative integers",),
    ),
    Difference(
        "repeat_interleave takes dim=0 for a 0-d tensor",
        "as it takes -1, and as other functions take both",
        ("repeat_interleave 0-d dim 0",),
    ),
    Difference(
        "uint8 is refused as a condition, a mask or an index",
        "PyTorch takes it for a mask and has deprecated that; NumPy takes it for indices",
        ("where condition of bytes", "mask of bytes"),
    ),
    Difference(
        "any and all always give bool, and dim=() means all dimensions",
        "PyTorch gives uint8 for uint8 alone, and reads dim=() as none in any and all alone",
        ("any bytes", "all bytes", "any empty tuple", "all empty tuple"),
    ),
    Difference(
        "the gradient of var and std with dim=() is that of all dimensions",
        "PyTorch's is infinite: its backward counts one element",
        ("var empty tuple", "std empty tuple"),
    ),
    Difference(
        "where var divides by nothing, its infinite gradient has the sign of x - mean",
        "PyTorch's is +inf everywhere",
        ("var correction too large",),
    ),
    Difference(
        "the gradient of amax and amin goes to the NaNs where the result is NaN",
        "max() and min() do so in PyTorch too; there amax gives NaN to every element",
        ("amax NaN", "amax NaN dim", "amax NaN dim 1", "amin NaN", "amin NaN dim", "amin NaN dim 1"),
    ),
    Difference(
        "argmax and argmin take bools",
        "the first True is a useful question",
        ("argmax bools", "argmax bools dim", "argmin bools", "argmin bools dim", "dtypes of argmax"),
    ),
    Difference(
        "a bool tensor cannot be raised to a power", "as for the other arithmetic on two bools", ("dtypes of pow",)
    ),
    Difference("bools can be clamped by a bool", "it is `or` and `and`", ("dtypes of clamp",)),
    Difference(
        "an index has one Ellipsis at most, no bare True or False, and no floats",
        "NumPy's rules for the first and the last; a bare bool is nearly always a mistake",
        (
            "two ellipses",
            "assign to two ellipses",
            "bare True",
            "assign to bare True",
            "list of floats",
            "assign to list of floats",
        ),
    ),
    Difference(
        "a nested list is one array of indices",
        "as in NumPy; PyTorch reads the outer list as a tuple and announces that it will not",
        ("list nested", "assign to list nested", "list of tensors as index"),
    ),
    Difference(
        "lists and NumPy arrays can be assigned to an index",
        "they convert to tensors without doubt",
        ("assign a list", "assign an array"),
    ),
    Difference(
        "values of another dtype can be assigned to positions and masks",
        "they are converted, as those assigned to slices are in PyTorch too",
        ("assign another dtype to positions",),
    ),
    Difference(
        "y.mul_(y) and y.div_(y) are differentiable",
        "the old value is kept for backward, as it is for y.mul_(w); PyTorch refuses in backward",
        ("mul itself in place", "div itself in place"),
    ),
    Difference(
        "linear takes a weight (O, I) and a bias (O,) alone",
        "PyTorch's other forms are matmul",
        ("linear bias 2-d", "linear 1-d weight"),
    ),
    Difference(
        "convolution and pooling take floating-point tensors alone",
        "integers are not trained; cast them",
        ("conv2d integers", "max_pool2d integers", "avg_pool2d integers"),
    ),
    Difference(
        "the options of a transposed convolution are checked for an empty batch too",
        "they would be refused for any other",
        ("conv_transpose2d empty batch, output padding too large",),
    ),
    Difference(
        "images without rows, columns or channels are refused",
        "there is nothing to convolve or average; PyTorch fills with the bias, or divides by zero",
        ("conv2d no input channels", "adaptive_avg_pool2d empty image"),
    ),
    Difference(
        "avg_pool3d takes a window that fits into the padded volume",
        "as every other pooling does; PyTorch's wants it to fit into the volume alone",
        ("avg_pool3d window in the padding",),
    ),
    Difference(
        "the gradient of nearest interpolation with a scale belongs to what forward read",
        "PyTorch's backward assumes another scale where the sizes are equal or one is twice the other",
        ("interpolate nearest keeps the size",),
    ),
    Difference(
        "interpolate has no antialias",
        "mode='area' makes images smaller without aliasing",
        ("interpolate antialias of bilinear",),
    ),
    Difference(
        "pixel_shuffle of an empty batch has a gradient",
        "it is empty; PyTorch's backward fails",
        ("pixel_shuffle empty batch",),
    ),
    Difference(
        "padding with the input's own values refuses to crop all of the input first",
        "there is nothing left to show; PyTorch's circular mode gives uninitialised memory",
        tuple(
            f"pad {mode} {shape} by (-9, 3)"
            for mode in ("reflect", "replicate", "circular")
            for shape in ("(3, 9)", "(2, 3, 9)")
        ),
    ),
    Difference(
        "adaptive pooling to nothing has a gradient, and a matrix is refused",
        "zeros are the gradient; an image has channels",
        ("adaptive_avg_pool2d zero", "adaptive_avg_pool2d wrong rank"),
    ),
    Difference(
        "label smoothing must lie in 0..1",
        "a negative value is a mistake; PyTorch checks the upper end alone",
        (
            "cross_entropy smoothing negative",
            "cross_entropy smoothing negative sum",
            "cross_entropy smoothing negative none",
        ),
    ),
    Difference(
        "uint16 to uint64 and complex numbers are refused",
        "no operation of gpunet needs them",
        ("tensor of uint16", "tensor of complex"),
    ),
    Difference(
        "a key that a ParameterDict does not have is a KeyError",
        "as of any dict; PyTorch's is the AttributeError of its implementation",
        ("ParameterDict no key",),
    ),
    Difference(
        "sizes of a random split must not be negative, and no more can be drawn without replacement than have weights",
        "PyTorch splits into 11 and -1, and draws indices whose weight is zero",
        ("random_split negative", "WeightedRandomSampler too many"),
    ),
    Difference(
        "scale_grad_by_freq of embedding_bag divides each row's gradient by how often that row was looked up",
        "it is what the documentation says; PyTorch's CPU divides by the counts of other rows",
        ("embedding_bag by frequency",),
    ),
    Difference(
        "a src larger than the index of scatter and scatter_add has a gradient; so has adding a number",
        "what was not read has gradient 0; PyTorch's backward stops",
        ("scatter larger src", "scatter empty index", "scatter_add larger src", "scatter add number gradient"),
    ),
    Difference(
        "multinomial without replacement refuses more draws than there are categories of weight above 0",
        "PyTorch goes on with categories of probability 0",
        ("multinomial impossible",),
    ),
    Difference("round() takes a tensor of one element", "as float() and int() do", ("round",)),
    Difference(
        "bytes cannot be seen as another dtype or under other strides: no view(dtype), no as_strided",
        "the memory order of activations is gpunet's own; to(dtype), unfold, expand and indexing serve",
        ("view of a dtype", "as_strided"),
    ),
    Difference("full takes an integer for its size", "as zeros, ones and empty do", ("full integer size",)),
    Difference(
        "the gradient of elu, selu, celu, hardswish and l1_loss at NaN is NaN",
        "NaN is neither below nor above the bend; PyTorch takes a side, another one each time",
        (
            "elu NaN",
            "elu alpha NaN",
            "selu NaN",
            "celu NaN",
            "celu alpha NaN",
            "elu inplace NaN",
            "selu inplace NaN",
            "celu inplace NaN",
            "elu_ NaN",
            "selu_ NaN",
            "celu_ NaN",
            "hardswish NaN",
            "hardswish inplace NaN",
            "l1_loss NaN mean",
            "l1_loss NaN sum",
            "l1_loss NaN none",
        ),
    ),
    Difference(
        "gelu, mish and softsign of infinity, and their gradients there, are the limits",
        "PyTorch has NaN for some of them, in some dtypes",
        (
            "gelu infinite",
            "mish infinite",
            "mish inplace infinite",
            "softsign infinite",
        ),
    ),
    Difference(
        "bilinear and the losses take floating-point inputs alone",
        "integers are not trained; cast them",
        (
            "bilinear integers",
            "l1_loss integers sum",
            "l1_loss integers none",
        ),
    ),
    Difference(
        "huber_loss and binary_cross_entropy_with_logits take integer targets",
        "as mse_loss does; PyTorch fails in backward",
        (
            "huber_loss integer target mean",
            "huber_loss integer target sum",
            "huber_loss integer target none",
            "binary_cross_entropy_with_logits integer target mean",
            "binary_cross_entropy_with_logits integer target sum",
            "binary_cross_entropy_with_logits integer target none",
        ),
    ),
    Difference(
        "cosine_similarity needs a dimension",
        "a number has no direction",
        ("cosine_similarity 0-d",),
    ),
    Difference(
        "the gradient of binary_cross_entropy in its target is that of the limited logarithms",
        "it is the derivative of the loss; PyTorch's is infinite at probabilities 0 and 1",
        tuple(f"binary_cross_entropy certain {reduction}" for reduction in ("mean", "sum", "none")),
    ),
    Difference(
        "LSTM has no projections: proj_size is 0",
        "they save parameters of very large layers; a Linear after the layer does most of it",
        ("LSTM proj_size",),
    ),
    Difference(
        "lengths of sequences are integers, and none is longer than its batch",
        "PyTorch rounds floats down, and unpad_sequence gives all steps for a length above T",
        ("pack_padded_sequence floats for lengths", "unpad_sequence length above T"),
    ),
    Difference(
        "a query whose keys are all masked has attention weights of 0, and so has what comes of them",
        "a mean over nothing; PyTorch has NaN where the weights are returned, and zeros where they are not",
        ("multi_head_attention_forward hidden query",),
    ),
    Difference(
        "a TransformerEncoder in evaluation gives positions that are padding what the layers make of them",
        "as in training; PyTorch has zeros there, where it takes its nested tensors",
        ("TransformerEncoder padding in evaluation",),
    ),
    Difference(
        "log_prob and cdf of a distribution take a number",
        "as its parameters may be numbers; nothing is ambiguous",
        ("Normal number for log_prob",),
    ),
    Difference(
        "parameters of a distribution are floating-point tensors or numbers",
        "PyTorch takes integers, and cannot draw",
        ("Normal integer parameters",),
    ),
    Difference(
        "kl_divergence of a Normal and a Uniform has the shape to which both broadcast",
        "as all others have; PyTorch's has the shape of the Normal",
        ("kl_divergence Normal and Uniform of another shape",),
    ),
    Difference(
        "Categorical refuses negative weights, all of them negative too",
        "no weight is negative; PyTorch looks at them after division by their sum",
        ("Categorical all negative",),
    ),
    Difference(
        "TransformerEncoder and its layer return attention weights for need_weights=True",
        "to see where they look; PyTorch's throw them away",
        ("TransformerEncoder need_weights", "TransformerEncoderLayer need_weights"),
    ),
)

_REASONS: Final = {label: difference for difference in DIFFERENCES for label in difference.cases}


def stated_difference(label: str) -> Difference | None:
    """The stated difference that a parity case shows, if there is one."""
    return _REASONS.get(label)


def differences_page() -> str:
    """The table as the page ``docs/differences.md``."""
    rows = "\n".join(f"| {entry.what} | {entry.reason} |" for entry in DIFFERENCES)
    return (
        "# Where gpunet differs from PyTorch\n\n"
        "Everything else that both have is held to PyTorch 2.13 by the parity tests: values, gradients, dtypes, shapes "
        "and whether it raises. This page is written by\n"
        "`python -m gpunet.testing.differences > docs/differences.md`.\n\n"
        f"| gpunet | because |\n|---|---|\n{rows}\n"
    )


if __name__ == "__main__":
    print(differences_page(), end="")
