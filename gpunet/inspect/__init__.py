"""Looking at models and runs."""

from gpunet.inspect.architecture_plot import plot_architecture
from gpunet.inspect.bptt_terms import BPTTTerm, BPTTTerms, TermNorms, bptt_terms
from gpunet.inspect.bptt_trace import BPTTTrace, bptt_trace
from gpunet.inspect.comparison_plots import plot_curves, plot_layer_costs, plot_param_counts
from gpunet.inspect.convolution_plots import (
    ChannelParts,
    channel_parts,
    plot_channels,
    plot_global_average,
    plot_input_gradient,
)
from gpunet.inspect.descent import Descent, descend, loss_grid, optimizer_race, optimizer_trace, valley
from gpunet.inspect.descent_plots import parabola, plot_learning_rates, plot_loss_surface, plot_optimizer_race
from gpunet.inspect.explain import OutputSize, ParamExplanation, ParamRow, explain_output_size, explain_params
from gpunet.inspect.feature_plots import plot_feature_maps, plot_filters
from gpunet.inspect.field_plots import plot_convolution, plot_receptive_field, plot_stack
from gpunet.inspect.filter_gallery import filter_gallery, plot_filter_gallery
from gpunet.inspect.graph import to_dot
from gpunet.inspect.layer_graph import Arrow, Block, Box, LayerGraph, layer_graph
from gpunet.inspect.likelihood_plot import likelihood, plot_likelihood
from gpunet.inspect.lstm_gates import LSTMGates, lstm_gates, plot_lstm_gates
from gpunet.inspect.optimizer_family import OPTIMIZER_FAMILY, Relative, plot_optimizer_family
from gpunet.inspect.plots import PlotUnavailableError, curve_png
from gpunet.inspect.receptive_field import ReceptiveField
from gpunet.inspect.recurrent_plots import plot_bptt_terms, plot_bptt_trace, repeated_factor
from gpunet.inspect.summary import LayerSummary, Share, Summary, count_params, receptive_field, summary
from gpunet.nn.functional import conv_output_size

__all__ = [
    "Arrow",
    "BPTTTerm",
    "BPTTTerms",
    "BPTTTrace",
    "Block",
    "Box",
    "ChannelParts",
    "Descent",
    "LSTMGates",
    "LayerGraph",
    "LayerSummary",
    "OPTIMIZER_FAMILY",
    "OutputSize",
    "ParamExplanation",
    "ParamRow",
    "PlotUnavailableError",
    "ReceptiveField",
    "Relative",
    "Share",
    "Summary",
    "TermNorms",
    "bptt_terms",
    "bptt_trace",
    "channel_parts",
    "conv_output_size",
    "count_params",
    "curve_png",
    "descend",
    "explain_output_size",
    "explain_params",
    "filter_gallery",
    "layer_graph",
    "likelihood",
    "loss_grid",
    "lstm_gates",
    "optimizer_race",
    "optimizer_trace",
    "parabola",
    "plot_architecture",
    "plot_bptt_terms",
    "plot_bptt_trace",
    "plot_channels",
    "plot_convolution",
    "plot_curves",
    "plot_feature_maps",
    "plot_filter_gallery",
    "plot_filters",
    "plot_global_average",
    "plot_input_gradient",
    "plot_layer_costs",
    "plot_learning_rates",
    "plot_likelihood",
    "plot_loss_surface",
    "plot_lstm_gates",
    "plot_optimizer_family",
    "plot_optimizer_race",
    "plot_param_counts",
    "plot_receptive_field",
    "plot_stack",
    "receptive_field",
    "repeated_factor",
    "summary",
    "to_dot",
    "valley",
]
