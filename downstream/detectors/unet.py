"""Localisation: a U-Net from scratch says of every pixel how sure it is of a defect.

The protocol is that of AnomalyDiffusion (Hu et al. 2024) and of those compared with it: images
resized to a square of 256 px, focal loss, an image's score the maximum of its map averaged over
21 x 21 px. Theirs keeps the epoch that is best on test; here nothing of test is looked at, and by
default each image's loss is divided by its defect pixels (`focal_loss`).
"""

import math
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from downstream.config import ExperimentConfig
from downstream.dataset import Item
from downstream.detectors.batches import MEAN, STD, augment, normalise
from downstream.detectors.earlier import about_run, earlier_run, load_run
from downstream.detectors.fitting import fit, save_network, seeded
from downstream.detectors.outcome import OnStep, Outcome, pick_device, use_bf16
from downstream.detectors.selection import BestOnVal
from downstream.detectors.squares import Draws, Squares
from downstream.errors import WeightsError
from downstream.files import write_atomic
from downstream.localisation import count_pixels, localisation_metrics

KIND = "unet-localise"
WIDTHS = (1, 2, 4, 8, 8)
"""Channels of the levels, as multiples of the first one's."""
PRIOR = 0.01
"""What the untrained network says of every pixel, so that the first steps are not spent on learning
that most are sound (Lin et al. 2017, section 3.3)."""
LEAST_SHARE = 0.005
"""An image counts as if at least this share of it were defect, a clean one too."""
AVERAGED_PX = 21


class UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) with batch norm, on blocks of `fold` x `fold` px.

    Args:
        width: channels of the first level.
        fold: side of the blocks that are folded into channels before and unfolded after.
    """

    def __init__(self, width: int, fold: int) -> None:
        super().__init__()
        sizes = [width * k for k in WIDTHS]
        self.fold, self.unfold = nn.PixelUnshuffle(fold), nn.PixelShuffle(fold)
        self.down = nn.ModuleList(
            _block(before, after)
            for before, after in zip([3 * fold**2, *sizes], sizes, strict=False)
        )
        self.up = nn.ModuleList(
            nn.Conv2d(below, above, 1)
            for below, above in zip(sizes[:0:-1], sizes[-2::-1], strict=True)
        )
        self.merge = nn.ModuleList(_block(2 * size, size) for size in sizes[-2::-1])
        self.head = nn.Conv2d(width, fold**2, 1)
        nn.init.constant_(self.head.bias, math.log(PRIOR / (1 - PRIOR)))  # type: ignore[arg-type]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of a defect, (N, 1, px, px), of normalised images (N, 3, px, px)."""
        x = self.fold(images)
        kept: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if level else x)
            kept.append(x)
        for up, merge, skip in zip(self.up, self.merge, kept[-2::-1], strict=True):
            # the 1 x 1 convolution comes first, where there are four times fewer pixels
            x = nn.functional.interpolate(up(x), scale_factor=2.0, mode="nearest")
            x = merge(torch.cat([skip, x], dim=1))
        return self.unfold(self.head(x))


def build_unet(about: dict[str, Any]) -> UNet:
    """The network that a run's `model.json` describes, with random weights.

    Its input is RGB in [0, 1], a square of `px`, less `mean`, divided by `std`; its output logits.
    """
    return UNet(int(about["width"]), int(about["fold"]))


def image_score(maps: torch.Tensor) -> torch.Tensor:
    """Score (N,) of images from their maps (N, px, px): the maximum after averaging over
    `AVERAGED_PX` px square, beyond the edge 0 (AnomalyDiffusion, train-localization.py)."""
    averaged = nn.functional.avg_pool2d(
        maps[:, None], AVERAGED_PX, stride=1, padding=AVERAGED_PX // 2
    )
    return averaged.amax(dim=(1, 2, 3))


def focal_loss(logits: torch.Tensor, masks: torch.Tensor, balance: bool) -> torch.Tensor:
    """Focal loss of maps (Lin et al. 2017, with gamma 2 and no class weight).

    Args:
        logits: (N, px, px).
        masks: (N, px, px), 1 on the defect.
        balance: divide the loss of each image by its number of defect pixels, as Lin et al. divide
            by that of positive anchors, but by `LEAST_SHARE` of the image at least; else the mean
            over all pixels is taken, in which a blowhole weighs a hundredth of a frayed edge.
    """
    truth = masks.float()
    loss = sigmoid_focal_loss(logits.float(), truth, alpha=-1, gamma=2, reduction="none")
    if not balance:
        return loss.mean()
    least = LEAST_SHARE * truth[0].numel()
    return (loss.sum(dim=(1, 2)) / truth.sum(dim=(1, 2)).clamp(min=least)).mean()


def train_localiser(
    train: list[Item],
    val: list[Item],
    test: list[Item],
    classes: tuple[str, ...],
    config: ExperimentConfig,
    seed: int,
    folder: Path,
    on_step: OnStep,
) -> Outcome:
    """Train a U-Net on `train` for exactly `config.localisation_steps` steps and predict.

    Which step's weights are measured is `config.select`'s word; with `val` or `both`, ten checks
    of pixel AP on val choose one (see selection.py). `test` is predicted once they are fixed.
    Those measured are saved as `weights.safetensors` beside `model.json`, their maps of test as
    `maps-test/<id>.png`.

    Raises:
        ExportError: an image or a mask can't be read.
        WeightsError: the earlier run that it goes on from is none, or does not fit.
        RunError: the loss stopped being a number.
    """
    device = torch.device(pick_device(config.device))
    about = _about(config, classes)
    model, weights = _build(config, about, seed)
    model = model.to(device).to(memory_format=torch.channels_last)
    px = config.localisation_px
    sides = {name: Squares(own, px) for name, own in (("val", val), ("test", test)) if own}

    def score(model: nn.Module) -> float:
        rows = _predict(model, sides["val"], config.localisation_batch, device)
        return float(localisation_metrics(rows, classes)["pixel_ap"])

    best = BestOnVal(model, config.localisation_steps, config.select, score)

    def stepped(done: int, total: int) -> None:
        best.after_step(done)
        on_step(done, total)

    history = _fit(model, Squares(train, px), config, seed, device, stepped)
    maps = folder / "maps-test"

    def predict(model: nn.Module) -> dict[str, list[dict[str, Any]]]:
        # the first call is for the weights that are measured, and it alone leaves pictures
        own = {} if maps.exists() else {"test": maps}
        return {
            name: _predict(model, side, config.localisation_batch, device, own.get(name))
            for name, side in sides.items()
        }

    selected, predictions, val_chosen = best.settle(predict)
    save_network(model, about, folder)
    return Outcome(
        steps=config.localisation_steps,
        predictions=predictions,
        from_scratch=weights is None,
        weights=f"U-Net of width {config.localisation_width}, {weights or 'random weights'}",
        device=str(device),
        parameters=sum(p.numel() for p in model.parameters()),
        history=history,
        selected_step=selected,
        labels=classes,
        val_chosen=val_chosen,
        checks=best.checks,
    )


def _build(
    config: ExperimentConfig, about: dict[str, Any], seed: int
) -> tuple[nn.Module, str | None]:
    """The network, and the name of the weights that it starts from, or None for random ones."""
    run = earlier_run(config.localiser)
    if run is None or not config.pretrained:
        with seeded(seed):
            return build_unet(about), None
    before = about_run(run, "localisation")
    for key in ("width", "fold"):
        if before[key] != about[key]:
            raise WeightsError(
                f"{run} holds a U-Net with {key} {before[key]}; set localisation_{key} to "
                f"{before[key]}, or localiser to unet."
            )
    return load_run(lambda: build_unet(before), run, "localisation"), f"those of {run}"


def _fit(
    model: nn.Module,
    squares: Squares,
    config: ExperimentConfig,
    seed: int,
    device: torch.device,
    on_step: OnStep,
) -> list[tuple[int, float]]:
    rng = np.random.default_rng(seed)
    draws = Draws(squares.items, config.localisation_most_clean, rng)
    mixed, step = config.synthetic_steps("localisation"), count()
    bf16 = use_bf16(config.precision, str(device))

    def loss_of_batch() -> torch.Tensor:
        if next(step) == mixed:
            draws.only_real()
        images, masks = squares.batch(draws.batch(config.localisation_batch))
        batch, moved = augment(images.to(device), rng, masks.to(device))
        assert moved is not None
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = model(batch)
        return focal_loss(logits[:, 0], moved, config.localisation_balance)

    return fit(
        model,
        loss_of_batch,
        steps=config.localisation_steps,
        rate=config.localisation_lr,
        rate_key="localisation_lr",
        on_step=on_step,
    )


@torch.no_grad()
def _predict(
    model: nn.Module, squares: Squares, batch: int, device: torch.device, maps: Path | None = None
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for start in range(0, len(squares), batch):
        part = range(start, min(start + batch, len(squares)))
        images, masks = squares.batch(part)
        shares = model(normalise(images.to(device).float() / 255)).float().sigmoid()[:, 0].cpu()
        scores = image_score(shares).double().round(decimals=6).tolist()
        for k, index in enumerate(part):
            item, own = squares.items[index], shares[k].numpy()
            counts = count_pixels(own, masks[k].numpy())
            found.append({"id": item.id, "class": item.class_name, "score": scores[k], **counts})
            if maps is not None:
                picture = Image.fromarray((own * 255).round().astype(np.uint8))
                write_atomic(maps / f"{item.id}.png", picture.save)
    return found


def _block(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (before, after):
        layers += [
            nn.Conv2d(size, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _about(config: ExperimentConfig, classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "kind": KIND,
        "source": "unet",
        "classes": list(classes),
        "px": config.localisation_px,
        "width": config.localisation_width,
        "fold": config.localisation_fold,
        "mean": MEAN,
        "std": STD,
    }
