"""Looking at models and runs."""

from gpunet.inspect.graph import to_dot
from gpunet.inspect.plots import PlotUnavailableError, curve_png

__all__ = ["PlotUnavailableError", "curve_png", "to_dot"]
