"""The only room that knows FiftyOne: its database, the datasets' schema, the App.

FiftyOne itself is imported by the first call that needs it, not by importing this package.
"""

from augmentor.fiftyone_io.app import AppSession, launch_app
from augmentor.fiftyone_io.brain import Embedded, Nearest, show_embeddings
from augmentor.fiftyone_io.connection import connect, database_status
from augmentor.fiftyone_io.overview import Overview, overview
from augmentor.fiftyone_io.predictions import Predicted, show_predictions
from augmentor.fiftyone_io.register import (
    add_new,
    check_name,
    dataset_exists,
    dataset_info,
    is_dataset_of,
    is_free,
    note,
    register_mix,
    register_real,
    sample_keys,
)
from augmentor.fiftyone_io.review import Chosen, chosen_samples, mirror, with_sources
from augmentor.fiftyone_io.views import prepare_views, rank
from augmentor.items import PoolSample

__all__ = [
    "AppSession",
    "Chosen",
    "Embedded",
    "Nearest",
    "Overview",
    "PoolSample",
    "Predicted",
    "add_new",
    "check_name",
    "chosen_samples",
    "connect",
    "database_status",
    "dataset_exists",
    "dataset_info",
    "is_dataset_of",
    "is_free",
    "launch_app",
    "mirror",
    "note",
    "overview",
    "prepare_views",
    "rank",
    "register_mix",
    "register_real",
    "sample_keys",
    "show_embeddings",
    "show_predictions",
    "with_sources",
]
