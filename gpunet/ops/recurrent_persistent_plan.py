"""How a recurrent layer's weights and sequences are cut into blocks that stay on a GPU for all steps.

``cuda_kernels/recurrent_persistent.cuh`` says what the blocks do, ``recurrent_product.cuh`` what a warp holds. All is a
pure function of sizes, dtype and the GPU's limits. There is a plan only where it can be kept: all blocks are on the GPU
at once, one on each multiprocessor at most (they take all registers), and a block's shared memory suffices.

What that comes to on a GPU of 132 multiprocessors, in float32: each holds 32768 weights, so that LSTMs and GRUs are
kept up to H = 1024 (of an LSTM, 128 blocks of 8 units), vanilla layers up to 2048; half types hold two in a word, which
halves the blocks. An LSTM of H = 512 takes 32 blocks: a batch of 64 is dealt to four sets of them, 16 sequences each.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gpunet.backend.gpu_limits import GPULimits
from gpunet.ops.recurrent_buffers_cuda import GATES

__all__ = ["Plan", "Slicing", "choose_plan", "plan_slices"]

_WARPS: Final = 8
# More sequences than this in a block, and the products are large enough to be done one step at a time.
_MOST_ROWS: Final = 64
# Words of rows that a block brings into shared memory in each step. Past this the traffic of all blocks with the L2
# cache takes longer than a product that shares its operands better. An estimate, from that cache's bandwidth.
_MOST_WORDS: Final = 2**17
# Fewer steps do not make up for the loading of the weights.
_FEWEST_STEPS: Final = 4


class _Product(NamedTuple):
    """What a warp holds, and how it is given rows.

    Attributes:
        columns, words: of a warp's weights.
        piece: words of a row that a warp reads at once.
        elements: values in a word.
        rows: that are multiplied at once.
        groups: rows in a buffer of shared memory, and buffers, in order of preference.
        architecture: the oldest GPU that has it.
    """

    columns: int
    words: int
    piece: int
    elements: int
    rows: int
    groups: tuple[tuple[int, int], ...]
    architecture: int


_TENSOR_GROUPS: Final = ((16, 2), (8, 2), (8, 1))
_PRODUCTS: Final = {
    "small_float32": _Product(32, 128, 32, 1, 4, ((4, 0),), 0),
    "float32": _Product(8, 512, 128, 1, 4, ((8, 2), (4, 2), (4, 1)), 0),
    "tf32": _Product(8, 512, 16, 1, 8, _TENSOR_GROUPS, 80),
    "bfloat16": _Product(8, 512, 16, 2, 8, _TENSOR_GROUPS, 80),
    "float16": _Product(8, 512, 16, 2, 8, _TENSOR_GROUPS, 75),
}


class Slicing(NamedTuple):
    """One direction's blocks. The last six are ``RECURRENT_SLICES`` of ``recurrent_persistent.cuh``, in its order.

    Attributes:
        slices: blocks that share the hidden units.
        batch_slices: blocks that share the sequences.
        shared_memory: bytes a block has.
        units: hidden units of a block.
        rows: sequences of a block, at most.
        group: rows of a buffer.
        buffers: of shared memory that rows arrive in; 0 where they never leave it.
        warps_across: warps that have other columns; the rest share the depth.
        pitch: words from one row of a buffer to the next.
    """

    slices: int
    batch_slices: int
    shared_memory: int
    units: int
    rows: int
    group: int
    buffers: int
    warps_across: int
    pitch: int


class Plan(NamedTuple):
    """Which kernels run, and how they are launched.

    Attributes:
        product: the end of their names; ``"small_float32"`` has all units in one block.
        forward, backward: the blocks of either direction; None where that one is better taken step by step.
    """

    product: str
    forward: Slicing | None
    backward: Slicing | None

    @property
    def is_small(self) -> bool:
        """Whether blocks do not wait for each other."""
        return self.product.startswith("small")

    @property
    def elements(self) -> int:
        """Values in a word of what is multiplied."""
        return _PRODUCTS[self.product].elements


def choose_plan(
    kind: str, steps: int, batch: int, hidden: int, dtype: Any, tf32: bool, limits: GPULimits
) -> Plan | None:
    """The plan of a layer, or None where its steps are better taken one by one.

    Args:
        kind: ``"rnn"``, ``"lstm"`` or ``"gru"``.
        steps: length of the longest sequence.
        batch: number of sequences.
        hidden: H.
        dtype: of the arrays.
        tf32: whether float32 may be multiplied as TF32.
        limits: of the GPU.
    """
    if steps < _FEWEST_STEPS or batch == 0 or hidden == 0 or dtype.itemsize > 4:
        return None
    product = dtype.name if dtype.itemsize == 2 else "tf32" if tf32 and limits.architecture >= 80 else "float32"
    for name in ("small_float32", product):
        plan = plan_slices(name, kind, batch, hidden, limits)
        if plan is not None:
            return plan
    return None


def plan_slices(product: str, kind: str, batch: int, hidden: int, limits: GPULimits) -> Plan | None:
    """The plan for one of the products, or None where the GPU cannot hold it."""
    gates = GATES[kind]
    if limits.architecture < _PRODUCTS[product].architecture:
        return None
    forward = _slicing(product, hidden, gates, hidden, batch, limits)
    backward = _slicing(product, gates * hidden, 1, hidden, batch, limits)
    found_both = forward is not None and backward is not None
    if forward is backward is None or (product.startswith("small") and not found_both):
        return None
    return Plan(product, forward, backward)


def _slicing(
    product: str, depth: int, columns_a_unit: int, hidden: int, batch: int, limits: GPULimits
) -> Slicing | None:
    warp, is_small = _PRODUCTS[product], product.startswith("small")
    words = -(-depth // warp.elements)
    along = next((count for count in (1, 2, 4, 8) if count * warp.words >= words), None)
    if along is None:
        return None
    across = _WARPS // along
    units = min(across * warp.columns // columns_a_unit, hidden)
    if units == 0 or (is_small and units < hidden):
        return None
    slices = -(-hidden // units)
    units = -(-hidden // slices)
    if not is_small and (not limits.cooperative or slices > limits.multiprocessors):
        return None
    # As few sequences a block as keep the multiprocessors busy.
    rows = max(-(-batch // (limits.multiprocessors // slices)), min(warp.rows, batch))
    if rows > _MOST_ROWS:
        if not is_small:
            return None
        rows = _MOST_ROWS
    if not is_small and rows * words > _MOST_WORDS:
        return None
    pitch = -(-words // warp.piece) * warp.piece
    if not is_small and warp.piece == 16 and pitch % 32 == 0:
        pitch += 16  # no bank conflicts
    while True:
        for group, buffers in warp.groups:
            if group > warp.rows and group // 2 >= rows:
                continue  # half of it would stay empty
            padded = -(-rows // group) * group
            tile = (buffers * group if buffers else 2 * padded) * pitch
            shared_memory = 4 * (tile + along * padded * across * warp.columns + 2 * rows * units)
            if shared_memory <= limits.shared_memory:
                batch_slices = -(-batch // rows)
                return Slicing(slices, batch_slices, shared_memory, units, rows, group, buffers, across, pitch)
        if not is_small or rows <= 4:
            return None
        rows //= 2  # blocks that do not wait for each other may be more than fit
