"""Sampling: resumable to the bit, the same alone and in company, nothing skipped in silence."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from generator.backbones.compact import CompactBackbone
from generator.config import dump_recipe
from generator.crops import crop_window
from generator.errors import (
    CheckpointError,
    PlacementError,
    PoolError,
    SamplingError,
    WeightsError,
)
from generator.files import sha256_of_file
from generator.painting import fine_texture
from generator.pool import read_pool, write_pool_manifest
from generator.records import Draft, Verdict
from generator.sampling import (
    PLAN_ATTEMPTS,
    load_painter,
    make_request,
    sample_pool,
)
from generator.training import train

HERE = Path(__file__)


@dataclass(frozen=True)
class Finished:
    image: np.ndarray
    mask: np.ndarray
    boxes_xyxy: tuple
    scores: dict


class Planner:
    """A rectangle at a random place of a clean example; every third draft has a paste."""

    fingerprint = "rectangles"

    def __init__(self, examples):
        self.clean = [e for e in examples if e.is_clean]
        self.most_px = max(e.width * e.height for e in examples)
        self.tried = []

    def plan(self, request):
        self.tried.append(request.seed)
        rng = np.random.default_rng(request.seed)
        example = self.clean[int(rng.integers(len(self.clean)))]
        image = cv2.imread(str(example.image_path))[..., ::-1].copy()
        high, wide = (10, 30) if request.index % 2 else (30, 20)
        y = int(rng.integers(example.height - high))
        x = int(rng.integers(example.width - wide))
        mask = np.zeros(image.shape[:2], bool)
        mask[y : y + high, x : x + wide] = True
        paste = np.where(mask[..., None], 20, image).astype(np.uint8)
        return Draft(
            request=request,
            background=example,
            image=image,
            mask=mask,
            crop_xyxy=crop_window(
                (x, y, x + wide, y + high), (example.width, example.height), least_px=32
            ),
            mask_source_id="procedural:rectangle",
            mask_kind="exact",
            paste=paste if request.index % 3 == 0 else None,
            source_ids=(example.id,),
        )


def composite(draft, painted, *, feather_px):
    image = draft.image.copy()
    x1, y1, x2, y2 = draft.crop_xyxy
    inside = draft.mask[y1:y2, x1:x2]
    image[y1:y2, x1:x2][inside] = painted[inside]
    rows, columns = draft.mask.any(1).nonzero()[0], draft.mask.any(0).nonzero()[0]
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return Finished(image, draft.mask, (box,), {"fill": float(painted.mean()) / 255})


def judge(scores):
    fill = scores["fill"]
    return [] if fill > 0.3 else [_verdict(fill, f"only {fill:.2f} is filled.")]


def _verdict(fill, sentence):
    return Verdict(rule="fill", value=fill, threshold=0.3, sentence=sentence)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A finished tiny checkpoint, with its examples."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("tiny_conftest", HERE.with_name("conftest.py"))
    tiny = module_from_spec(spec)
    spec.loader.exec_module(tiny)
    home = tmp_path_factory.mktemp("checkpoint")
    recipe = tiny.Recipe.model_validate(tiny.TINY)
    examples = tiny.write_examples(home / "examples")
    (home / "examples.jsonl").write_text("".join(e.model_dump_json() + "\n" for e in examples))
    return train(recipe, examples, tiny.CLASSES, home / "c", seed=0), examples


def requests(painter, count):
    return [
        make_request(painter.fingerprint, ("pit", "scratch")[k % 2], k, 0) for k in range(count)
    ]


def files(folder):
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): sha256_of_file(p) for p in found}


def make(painter, examples, asked, pool, **more):
    how = {"composite": composite, "judge": judge, "feather_px": 3} | more
    return sample_pool(painter, how.pop("planner", Planner(examples)), asked, pool, **how)


def test_a_pool_holds_what_its_manifest_says(checkpoint, tmp_path):
    folder, examples = checkpoint
    painter = load_painter(folder)
    seen = []
    records = make(painter, examples, requests(painter, 5), tmp_path / "p", on_sample=seen.append)
    assert seen == records == read_pool(tmp_path / "p")
    assert [(r.class_name, r.index) for r in records] == [
        ("pit", 0),
        ("scratch", 1),
        ("pit", 2),
        ("scratch", 3),
        ("pit", 4),
    ]
    for record in records:
        image = cv2.imread(str(tmp_path / "p" / record.image), cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(str(tmp_path / "p" / record.mask), cv2.IMREAD_UNCHANGED)
        assert image.shape == mask.shape == (record.height, record.width)
        assert set(np.unique(mask)) == {0, 255}
        assert record.grey
        assert record.generator == "tiny"
        assert record.fingerprint == painter.fingerprint
        x1, y1, x2, y2 = record.boxes_xyxy[0]
        assert (mask[y1:y2, x1:x2] == 255).all()
        assert (record.verdict == "accepted") == (record.rule == "") == (record.reason == "")
    assert len(list((tmp_path / "p" / "images").iterdir())) == 5


def test_a_coarse_painting_stays_near_its_paste(checkpoint):
    """The strength falls only for windows that are scaled down to the canvas of 32 px."""
    folder, examples = checkpoint
    clean = next(e for e in examples if e.is_clean)
    image = cv2.imread(str(clean.image_path))[..., ::-1].copy()

    def change(high: int, shrink: float) -> tuple[np.ndarray, float]:
        painter = load_painter(folder)
        sampling = painter.recipe.sampling.model_copy(
            update={"shrink_strength": shrink, "steps": 12, "guidance": 1.0, "texture": 0.0}
        )
        painter.recipe = painter.recipe.model_copy(update={"sampling": sampling})
        mask = np.zeros(image.shape[:2], bool)
        mask[4 : 4 + high, 4:12] = True
        window = crop_window((4, 4, 12, 4 + high), (clean.width, clean.height), least_px=32)
        paste = np.where(mask[..., None], 20, image).astype(np.uint8)
        request = make_request(painter.fingerprint, "pit", 0, 0)
        draft = Draft(
            request=request,
            background=clean,
            image=image,
            mask=mask,
            crop_xyxy=window,
            mask_source_id=None,
            mask_kind="exact",
            paste=paste,
            source_ids=(clean.id,),
        )
        (painted,) = painter.paint([draft])
        x1, y1, x2, y2 = window
        inside = mask[y1:y2, x1:x2]
        return painted, float(np.abs(painted[inside].astype(float) - 20).mean())

    small, _ = change(10, 0.0)
    assert (small == change(10, 1.0)[0]).all()
    assert change(60, 1.0)[1] < 0.8 * change(60, 0.0)[1]


def test_two_that_fill_one_pool_at_once_make_each_sample_once(checkpoint, tmp_path):
    folder, examples = checkpoint
    painters = [load_painter(folder) for _ in range(2)]
    with ThreadPoolExecutor(2) as both:
        first, second = both.map(
            lambda painter: make(painter, examples, requests(painter, 4), tmp_path / "p"), painters
        )
    assert first == second == read_pool(tmp_path / "p")


def test_what_is_there_is_not_made_again_and_a_longer_list_continues(checkpoint, tmp_path):
    folder, examples = checkpoint
    painter = load_painter(folder)
    first = make(painter, examples, requests(painter, 4), tmp_path / "p")
    before = files(tmp_path / "p")
    painter.paint = None  # would fail if it were called
    assert make(painter, examples, requests(painter, 4), tmp_path / "p") == first
    assert files(tmp_path / "p") == before
    painter = load_painter(folder)
    longer = make(painter, examples, requests(painter, 7), tmp_path / "p")
    assert longer[:4] == first
    assert all(files(tmp_path / "p")[k] == v for k, v in before.items() if k.startswith("images"))
    assert read_pool(tmp_path / "p") == longer


KILLED = f"""
import os, signal, sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
spec = spec_from_file_location("tested", {str(HERE)!r})
t = module_from_spec(spec)
sys.modules["tested"] = t
spec.loader.exec_module(t)
from generator import sampling
from generator.records import DefectExample
checkpoint, pool, at, moment = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
lines = (checkpoint.parent / "examples.jsonl").open()
examples = [DefectExample.model_validate_json(line) for line in lines]
painter = sampling.load_painter(checkpoint)
count = 0
if moment == "between image and line":
    whole = sampling.write_png
    def write_png(path, pixels, **how):
        global count
        whole(path, pixels, **how)
        count += 1
        if count == 2 * at + 1:
            (pool / "manifest.jsonl").open("a").write('{{"id": "half a li')
            os.kill(os.getpid(), signal.SIGKILL)
    sampling.write_png = write_png
def on_sample(record):
    global count
    count += moment == "after a line"
    if moment == "after a line" and count == at:
        os.kill(os.getpid(), signal.SIGKILL)
t.make(painter, examples, t.requests(painter, 8), pool, on_sample=on_sample)
"""


@pytest.mark.parametrize("moment", ["after a line", "between image and line"])
def test_a_killed_run_ends_with_the_files_of_an_undisturbed_one(checkpoint, tmp_path, moment):
    folder, examples = checkpoint
    painter = load_painter(folder)
    make(painter, examples, requests(painter, 8), tmp_path / "whole")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(tmp_path / "killed"), "4", moment],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert 0 < len(files(tmp_path / "killed")) < 17
    make(painter, examples, requests(painter, 8), tmp_path / "killed")
    assert len(files(tmp_path / "whole")) == 17
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_sample_alone_equals_itself_in_company(checkpoint, tmp_path):
    """Stated tolerance: a mean absolute difference below 1 grey level."""
    folder, examples = checkpoint
    painter = load_painter(folder)
    asked = requests(painter, 40)
    planner = Planner(examples)
    batch = painter.paint([planner.plan(r) for r in asked[36:39]])
    for k in (36, 37, 38):
        alone = painter.paint([planner.plan(asked[k])])[0].astype(int)
        assert np.abs(alone - batch[k - 36]).mean() < 1
    assert np.abs(batch[0][:20, :20].astype(int) - batch[2][:20, :20]).mean() > 1


def cramped(monkeypatch, room):
    """Let the network run out of memory beyond `room` rows; returns the numbers of those it ran.

    Guidance brings two rows a sample."""
    forward, sizes = CompactBackbone.forward, []

    def limited(self, noisy, time, given):
        if len(noisy) > room:
            raise torch.OutOfMemoryError("no room")
        sizes.append(len(noisy))
        return forward(self, noisy, time, given)

    monkeypatch.setattr(CompactBackbone, "forward", limited)
    return sizes


def test_when_memory_runs_out_blocks_are_painted_in_halves(checkpoint, tmp_path, monkeypatch):
    """Within the tolerance of other company, and with the same ids and boxes."""
    folder, examples = checkpoint
    asked = requests(load_painter(folder), 6)
    whole = make(load_painter(folder), examples, asked, tmp_path / "roomy")
    sizes = cramped(monkeypatch, room=2)
    painter = load_painter(folder)
    halved = make(painter, examples, asked, tmp_path / "cramped")
    assert set(sizes) == {2}
    assert painter.batch_size == 3  # blocks of the pool are cut as ever
    assert [r.id for r in halved] == [r.id for r in whole]
    for record in whole:
        one, other = (
            cv2.imread(str(tmp_path / name / record.image)).astype(int)
            for name in ("roomy", "cramped")
        )
        assert np.abs(one - other).mean() < 1


@pytest.mark.parametrize(("megabytes", "blocks"), [(512, [4, 3]), (1, [2, 2, 2, 1]), (0, [1] * 7)])
def test_large_photographs_are_painted_few_at_a_time(
    checkpoint, tmp_path, monkeypatch, megabytes, blocks
):
    """All drafts of a block are held at once, and each holds whole images."""
    folder, examples = checkpoint
    painter = load_painter(folder)
    seen, paint = [], painter.paint

    def counted(drafts):
        seen.append(len(drafts))
        return paint(drafts)

    monkeypatch.setattr(painter, "paint", counted)
    monkeypatch.setattr(painter, "batch_size", 4)
    monkeypatch.setattr("generator.sampling.BLOCK_BYTES", megabytes * 2**20)
    planner = Planner(examples)
    planner.most_px = 50_000
    records = make(painter, examples, requests(painter, 7), tmp_path / "p", planner=planner)
    assert seen == blocks
    assert [record.index for record in records] == list(range(7))


def test_one_sample_that_does_not_fit_is_said_in_a_sentence(checkpoint, tmp_path, monkeypatch):
    folder, examples = checkpoint
    painter = load_painter(folder)
    cramped(monkeypatch, room=1)
    with pytest.raises(SamplingError, match=r"Memory ran out .* 'tiny' .*it continues\."):
        make(painter, examples, requests(painter, 3), tmp_path / "p")


def test_outside_the_mask_and_its_margin_the_crop_is_the_background(checkpoint):
    folder, examples = checkpoint
    painter = load_painter(folder)
    draft = Planner(examples).plan(make_request("f", "scratch", 1, 0))
    x1, y1, x2, y2 = draft.crop_xyxy
    assert (y2 - y1, x2 - x1) == (42, 42)  # scaled down: the fine texture must come back too
    painted = painter.paint([draft])[0].astype(int)
    mask = draft.mask[y1:y2, x1:x2].astype(np.uint8)
    away = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5) > 9
    difference = np.abs(painted - draft.image[y1:y2, x1:x2])
    assert away.any()
    assert difference[away].max() <= 2
    assert difference[mask == 1].mean() > 5


def test_seeds_and_ids_follow_from_what_they_are_made_of(checkpoint, tmp_path):
    one = make_request("f", "pit", 3, 0)
    assert one == make_request("f", "pit", 3, 0)
    others = [("g", "pit", 3, 0), ("f", "scratch", 3, 0), ("f", "pit", 4, 0), ("f", "pit", 3, 1)]
    assert len({one.seed, *(make_request(*o).seed for o in others)}) == 5
    folder, examples = checkpoint
    painter = load_painter(folder)
    assert painter.fingerprint == load_painter(folder).fingerprint
    first = make(painter, examples, requests(painter, 1), tmp_path / "p")[0]
    painter.fingerprint = "another"
    second = make(painter, examples, requests(painter, 1), tmp_path / "p")[0]
    assert first.id != second.id
    assert {r.id for r in read_pool(tmp_path / "p")} == {first.id, second.id}


def test_a_place_is_looked_for_again_and_then_the_want_of_one_is_said(checkpoint, tmp_path):
    folder, examples = checkpoint
    painter = load_painter(folder)

    class Crowded(Planner):
        def plan(self, request):
            draft = super().plan(request)
            if len(self.tried) < 4:
                raise PlacementError("it is crowded.")
            return draft

    asked = requests(painter, 1)
    planner = Crowded(examples)
    record = make(painter, examples, asked, tmp_path / "p", planner=planner)[0]
    assert record.seed == asked[0].seed == planner.tried[0]
    assert len(set(planner.tried)) == 4

    class Full(Planner):
        def plan(self, request):
            self.tried.append(request.seed)
            raise PlacementError("it is full.")

    full = Full(examples)
    with pytest.raises(PlacementError, match=r"pit number 0 in 16 attempts.*it is full"):
        make(painter, examples, asked, tmp_path / "q", planner=full)
    assert len(full.tried) == PLAN_ATTEMPTS


def test_rejects_are_kept_with_their_reason_and_verdicts_can_be_rewritten(checkpoint, tmp_path):
    folder, examples = checkpoint
    painter = load_painter(folder)
    records = make(
        painter,
        examples,
        requests(painter, 2),
        tmp_path / "p",
        judge=lambda scores: [_verdict(0.1, "too little appeared.")],
    )
    assert {(r.verdict, r.rule, r.reason) for r in records} == {
        ("rejected", "fill", "too little appeared.")
    }
    changed = [
        r.model_copy(update={"verdict": "accepted", "rule": "", "reason": ""}) for r in records
    ]
    write_pool_manifest(tmp_path / "p", changed)
    assert read_pool(tmp_path / "p") == changed


def test_whole_images_have_no_mask(tmp_path, tiny_examples, tiny_classes, tiny_recipe):
    examples = tiny_examples(instances=False, grey=False, clean=1)
    folder = train(
        tiny_recipe(training={"steps": 2}), examples, tiny_classes, tmp_path / "c", seed=0
    )

    class Whole(Planner):
        def plan(self, request):
            shape = (40, 56)
            return Draft(
                request=request,
                background=None,
                image=np.zeros((*shape, 3), np.uint8),
                mask=np.ones(shape, bool),
                crop_xyxy=(0, 0, 56, 40),
                mask_source_id="",
                mask_kind="none",
            )

    painter = load_painter(folder)
    record = make(painter, examples, requests(painter, 1), tmp_path / "p", planner=Whole(examples))[
        0
    ]
    assert (record.mask, record.mask_kind, record.boxes_xyxy) == (None, "none", ())
    assert (record.width, record.height, record.grey) == (56, 40, False)
    image = cv2.imread(str(tmp_path / "p" / record.image))
    assert image.shape == (40, 56, 3)
    assert image.std() > 5


def test_checkpoints_that_can_not_be_used_say_so(checkpoint, tmp_path, tiny_recipe):
    folder, examples = checkpoint
    with pytest.raises(CheckpointError, match=r"no checkpoint .*; train it with: augment train"):
        load_painter(tmp_path / "nothing")
    broken = tmp_path / "broken"
    broken.mkdir()
    with pytest.raises(CheckpointError, match="has not finished"):
        load_painter(broken)
    torch.save({"a": torch.zeros(1)}, broken / "weights.pt")
    with pytest.raises(WeightsError, match=r"is a pickle.*safetensors"):
        load_painter(broken)
    (broken / "weights.pt").unlink()
    for path in folder.glob("*.*"):
        (broken / path.name).write_bytes(path.read_bytes())
    load_painter(broken)
    recipe = tiny_recipe(backbone={"channels": [16, 48]})
    (broken / "recipe.yaml").write_text(dump_recipe(recipe))
    with pytest.raises(CheckpointError, match="its recipe differ in"):
        load_painter(broken)
    with (broken / "weights.safetensors").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(CheckpointError, match="is not the file that training wrote"):
        load_painter(broken)
    painter = load_painter(folder)
    request = make_request("f", "dent", 0, 0)
    with pytest.raises(CheckpointError, match="knows pit, scratch, not 'dent'"):
        painter.paint([Planner(examples).plan(request)])


def test_the_conversion_that_the_message_names_works(tmp_path):
    import re

    folder = tmp_path / "old"
    folder.mkdir()
    torch.save({"a": torch.arange(3.0)}, folder / "weights.pt")
    with pytest.raises(WeightsError) as caught:
        load_painter(folder)
    code = re.search(r'python -c "(.*)"', str(caught.value)).group(1)
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    assert torch.equal(load_file(folder / "weights.safetensors")["a"], torch.arange(3.0))


def test_pools_that_can_not_be_read_say_so(tmp_path):
    with pytest.raises(PoolError, match="no pool in"):
        read_pool(tmp_path)
    (tmp_path / "manifest.jsonl").write_text('{"id": 3}\n')
    with pytest.raises(PoolError, match=r"manifest\.jsonl is damaged"):
        read_pool(tmp_path)


def test_fine_texture_is_what_scaling_down_loses():
    rng = np.random.default_rng(0)
    smooth = np.tile(np.linspace(0, 200, 160, dtype=np.float32)[:, None, None], (1, 120, 1))
    noise = rng.normal(0, 10, smooth.shape).astype(np.float32)
    assert np.abs(fine_texture(smooth, 40)[8:-8, 8:-8]).max() < 1
    kept = fine_texture(smooth + noise, 40)
    assert 0.85 < kept.std() / noise.std() < 1.1
    assert (fine_texture(noise[:40, :40], 40) == 0).all()
