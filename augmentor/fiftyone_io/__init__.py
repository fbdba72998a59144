"""The only room that knows FiftyOne: its database, the datasets' schema, the App.

FiftyOne itself is imported by the first call that needs it, not by importing this package.
"""

from augmentor.fiftyone_io.app import AppSession, launch_app
from augmentor.fiftyone_io.connection import connect, database_status
from augmentor.fiftyone_io.register import (
    dataset_exists,
    register_mix,
    register_real,
    reviewed_rejections,
)
from augmentor.items import PoolSample

__all__ = [
    "AppSession",
    "PoolSample",
    "connect",
    "database_status",
    "dataset_exists",
    "launch_app",
    "register_mix",
    "register_real",
    "reviewed_rejections",
]
