"""Of several candidates the one that changed its place most is kept."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchmetrics.functional.image.lpips import _LPIPS
from torchvision.models import alexnet

from generator.assembly import build
from generator.painting import DiffusionPainter
from generator.records import Draft, SampleRequest
from generator.selection import LEVELS, Selector, pyramid_distance

CPU = torch.device("cpu")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder in the place of torch's own."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def write_alexnet(hub, seed: int = 0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = alexnet(weights=None)
    save_file(network.state_dict(), hub / "alexnet-owt-7be5be79.safetensors")
    return network


def scene(changes: list[int], channels: int = 1):
    """A surface, a mask, and candidates that brighten what is under it by `changes`."""
    rng = np.random.default_rng(0)
    before = rng.uniform(90, 110, (1, 64, 64, channels)).astype(np.float32)
    mask = np.zeros((1, 64, 64), np.float32)
    mask[:, 20:40, 10:50] = 1
    candidates = np.concatenate([before + c * mask[..., None] for c in changes])
    count = len(changes)
    return candidates, before.repeat(count, 0), mask.repeat(count, 0)


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_more_change_counts_more(hub, weights, channels):
    if weights:
        write_alexnet(hub)
    selector = Selector(CPU)
    assert selector.name == ("lpips-alex" if weights else "laplacian")
    change = selector.change(*scene([0, 5, 20, 80], channels))
    assert change[0] == pytest.approx(0, abs=1e-6)
    assert (np.diff(change) > 0).all()


def test_what_changes_beside_the_mask_does_not_count(hub):
    candidates, before, masks = scene([0])
    candidates[:, 50:, 52:] = 255
    inside = Selector(CPU).change(*scene([60]))[0]
    assert Selector(CPU).change(candidates, before, masks)[0] < 0.02 * inside


def test_without_weights_it_is_the_pyramid_and_says_so(hub):
    (hub / "alexnet-owt-7be5be79.pth").write_bytes(b"a pickle is never read")
    assert Selector(CPU).name == "laplacian"
    # A step of the same height everywhere is in the last, coarsest band alone.
    flat = torch.zeros(1, 3, 32, 48)
    raised = pyramid_distance(flat + 0.5, flat)
    torch.testing.assert_close(raised, torch.full((1, 1, 32, 48), 0.5 / (LEVELS + 1)))
    board = torch.tensor([1.0, -1.0]).repeat(24).expand(1, 3, 32, 48)
    # A texture of single pixels is in the first, finest band alone.
    torch.testing.assert_close(
        pyramid_distance(board, flat), torch.full((1, 1, 32, 48), 1 / (LEVELS + 1))
    )


def test_lpips_is_torchmetrics_with_the_weights_on_disk(hub):
    network = write_alexnet(hub)
    candidates, before, masks = scene([40], 3)
    plain = _LPIPS(net="alex", spatial=True, pnet_rand=True)
    plain.net.load_state_dict(
        {f"slice{k}.{n}": v for k, n, v in _sliced(network.features.state_dict())}
    )
    first, second = (
        torch.from_numpy(x).permute(0, 3, 1, 2) / 127.5 - 1 for x in (candidates, before)
    )
    with torch.no_grad():
        places = plain(first, second)[0, 0]
    wanted = places[torch.from_numpy(masks[0]) > 0].mean().item()
    assert Selector(CPU).change(candidates, before, masks)[0] == pytest.approx(wanted, rel=1e-4)


def _sliced(state):
    for name, value in state.items():
        number = int(name.split(".")[0])
        part = next(k for k, end in enumerate((2, 5, 8, 10, 12), 1) if number < end)
        yield part, name, value


def test_the_measure_and_its_weights_are_part_of_the_identity(hub):
    without = Selector(CPU).fingerprint
    write_alexnet(hub, 0)
    first = Selector(CPU).fingerprint
    write_alexnet(hub, 1)
    assert len({without, first, Selector(CPU).fingerprint}) == 3


def drafts(count: int) -> list[Draft]:
    rng = np.random.default_rng(2)
    made = []
    for k in range(count):
        image = rng.integers(90, 110, (40, 48, 3)).astype(np.uint8)
        mask = np.zeros((40, 48), bool)
        mask[10:20, 12 + k : 30] = True
        made.append(
            Draft(
                request=SampleRequest(class_name="pit", index=k, seed=100 + k),
                background=BACKGROUND,
                image=image,
                mask=mask,
                crop_xyxy=(4, 0, 36, 32),
                mask_source_id="procedural:rectangle",
                mask_kind="exact",
                paste=None,
                source_ids=(),
            )
        )
    return made


BACKGROUND = object()
"""Only whether there is one matters to a painter."""


class Brightest:
    """A measure that a test can foretell."""

    name = fingerprint = "brightest"

    def __init__(self):
        self.seen: list[float] = []

    def change(self, candidates, before, masks):
        assert candidates.shape == before.shape and masks.shape == candidates.shape[:3]
        found = (candidates[..., 0] * masks).sum(axis=(1, 2)) / masks.sum(axis=(1, 2))
        self.seen += found.tolist()
        return found


def test_the_painter_keeps_the_best_of_its_candidates(tiny_recipe, tiny_classes):
    def painter(best_of: int, selector=None) -> DiffusionPainter:
        recipe = tiny_recipe(sampling={"best_of": best_of, "init": "noise"})
        parts = build(recipe, tiny_classes, 1, spread=0.1)
        return DiffusionPainter(recipe, parts, tiny_classes, 1, "", selector)

    plain = painter(1).paint(drafts(4))
    measure = Brightest()
    chosen = painter(3, measure).paint(drafts(4))
    scores = np.array(measure.seen).reshape(3, 4)
    assert len(set(scores.argmax(axis=0))) > 1  # not always the same number
    for k in range(4):
        same = np.array_equal(chosen[k], plain[k])
        # The first candidate is what is painted without a choice.
        assert same == (scores[:, k].argmax() == 0)
    # Alone and in company, and again.
    alone = painter(3, Brightest()).paint(drafts(4)[2:3])[0]
    assert np.abs(alone.astype(int) - chosen[2]).max() <= 1
