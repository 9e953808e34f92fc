"""Datasets, samplers and loaders under PyTorch's names; transforms under torchvision's; the bundled digits; texts.

The same objects are in ``gpunet.utils.data``.
"""

from gpunet import _missing

from . import features, filters, transforms
from .collate import default_collate, default_convert
from .dataloader import DataLoader
from .dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from .digits import DIGITS_INFO, Digits, load_digits, load_digits_split
from .images import load_images, prepare_image, read_image
from .info import DatasetInfo
from .sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .sequences import ARProcess, RandomWalk, Series, Sine, windows
from .text import (
    TextInfo,
    TextSplits,
    TextStreams,
    Vocabulary,
    load_novel,
    load_text,
    make_text_splits,
    read_text,
)
from .vision import (
    ImageDataset,
    ImageSplits,
    get_dataset,
    list_datasets,
    load_npz,
    register_dataset,
    stratified_split,
)
from .workers import WorkerInfo, get_worker_info

__all__ = [
    # Datasets
    "Dataset",
    "TensorDataset",
    "Subset",
    "ConcatDataset",
    "StackDataset",
    "IterableDataset",
    "ChainDataset",
    "random_split",
    # Loading
    "DataLoader",
    "Sampler",
    "SequentialSampler",
    "RandomSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
    "BatchSampler",
    "default_collate",
    "default_convert",
    "WorkerInfo",
    "get_worker_info",
    # Labelled images
    "DatasetInfo",
    "ImageDataset",
    "ImageSplits",
    "get_dataset",
    "list_datasets",
    "register_dataset",
    "load_npz",
    "stratified_split",
    "Digits",
    "DIGITS_INFO",
    "load_digits",
    "load_digits_split",
    # Texts
    "Vocabulary",
    "TextInfo",
    "TextSplits",
    "TextStreams",
    "load_text",
    "load_novel",
    "make_text_splits",
    "read_text",
    # Series
    "Series",
    "Sine",
    "ARProcess",
    "RandomWalk",
    "windows",
    # Pictures from files
    "read_image",
    "prepare_image",
    "load_images",
    # Transforms
    "transforms",
    # Filters of image processing, and features made by hand
    "filters",
    "features",
]

_missing.explain(__name__)
