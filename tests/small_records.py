"""A few records with real files behind them: grey images of 60 x 40 px with a mask or two."""

from pathlib import Path

import numpy as np
from PIL import Image

from augmentor.items import PoolSample
from generator.records import GOOD, DefectExample, Instance, SyntheticDefect

CLASSES = ("pit", "scratch")
HEIGHT, WIDTH = 40, 60


def real(
    data: Path, number: int, label: str, split: str, box=(10, 5, 22, 13), **changes: object
) -> DefectExample:
    path = data / f"{number}.png"
    Image.fromarray(np.full((HEIGHT, WIDTH), number, np.uint8)).save(path)
    instances = ()
    if label != GOOD:
        mask = np.zeros((box[3] - box[1], box[2] - box[0]), np.uint8)
        mask[1:, :-2] = 255
        Image.fromarray(mask).save(data / f"{number}_mask.png")
        instances = (
            Instance(
                class_name=label,
                box_xyxy=box,
                mask_path=data / f"{number}_mask.png",
                mask_kind="exact",
            ),
        )
    values = {
        "id": f"{number:016x}",
        "sha256": f"{number:064x}",
        "image_path": path,
        "source_path": path,
        "width": WIDTH,
        "height": HEIGHT,
        "grey": True,
        "label": label,
        "instances": instances,
        "split": split,
    }
    return DefectExample(**(values | changes))


def synthetic(data: Path, index: int, name: str = "scratch", **changes: object) -> PoolSample:
    pool = data / "pool"
    (pool / "images").mkdir(parents=True, exist_ok=True)
    (pool / "masks").mkdir(exist_ok=True)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[4:9, 8:20], mask[20:23, 30:50] = 255, 255
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), index % 256, np.uint8)).save(
        pool / f"images/syn-{index}.png"
    )
    Image.fromarray(mask).save(pool / f"masks/syn-{index}.png")
    record = SyntheticDefect(
        id=f"syn-{index}",
        class_name=name,
        index=index,
        seed=2**62 + index,
        generator="compact",
        fingerprint="f00",
        image=f"images/syn-{index}.png",
        mask=f"masks/syn-{index}.png",
        width=WIDTH,
        height=HEIGHT,
        grey=False,
        boxes_xyxy=((8, 4, 20, 9), (30, 20, 50, 23)),
        mask_kind="exact",
        background_id=f"{0:016x}",
        mask_source_id="procedural:line",
        source_ids=(f"{0:016x}",),
        feather_px=3,
        crop_xyxy=(0, 0, 40, 40),
        scores={"contrast": 0.25},
        verdict="accepted",
    )
    return PoolSample(pool, record.model_copy(update=changes))
