"""Looking at models and runs."""

from gpunet.inspect.plots import PlotUnavailableError, curve_png

__all__ = ["PlotUnavailableError", "curve_png"]
