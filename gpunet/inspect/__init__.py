"""Looking at models and runs."""

from gpunet.inspect.graph import to_dot
from gpunet.inspect.plots import PlotUnavailableError, curve_png
from gpunet.inspect.receptive_field import ReceptiveField
from gpunet.inspect.summary import LayerSummary, Share, Summary, count_params, receptive_field, summary

__all__ = [
    "LayerSummary",
    "PlotUnavailableError",
    "ReceptiveField",
    "Share",
    "Summary",
    "count_params",
    "curve_png",
    "receptive_field",
    "summary",
    "to_dot",
]
