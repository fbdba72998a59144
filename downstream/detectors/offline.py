"""Keeps ultralytics off the network. The package calls this before anything in it imports
ultralytics, which reads its switches at import."""

import os
import shutil
import tempfile
from pathlib import Path

import matplotlib

from downstream.files import write_atomic


def go_offline() -> None:
    """Set every switch that keeps ultralytics, and albumentations, which it imports, offline.

    Ultralytics looks for a font in its settings folder and downloads one where there is none, so
    matplotlib's stands there under that name.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "augmentor" / "ultralytics"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"augmentor-ultralytics-{os.getuid()}"
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder))
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    font = Path(os.environ["YOLO_CONFIG_DIR"]) / "Ultralytics" / "Arial.ttf"
    if not font.exists():
        source = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
        write_atomic(font, lambda temporary: shutil.copyfile(source, temporary))
