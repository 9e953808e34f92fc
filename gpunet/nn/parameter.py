"""Parameter: a Tensor that a Module counts as its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet.autograd import Tensor
