"""On real photographs: what is pasted comes back as its mask, in each of the five classes."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from generator.baselines import make_baseline
from generator.compositing import composite
from generator.masks import DraftPlanner
from generator.planner_settings import PlannerSettings
from generator.quality.agreement import MaskRules, judge
from generator.records import SampleRequest

DATA = Path(__file__).parents[4] / "shared" / "data" / "magnetic-tile"
CLASSES = ("MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Uneven")


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"real data is not at {DATA}")
def test_copy_paste_of_real_defects_round_trips(tmp_path, write):
    examples = []
    for name in (*CLASSES, "MT_Free"):
        images = sorted((DATA / name / "Imgs").glob("*.jpg"))
        for path in images[:: max(len(images) // 12, 1)][:12]:
            picture = cv2.imread(str(path))
            defects = []
            if name in CLASSES:
                mask = cv2.imread(str(path.with_suffix(".png")), cv2.IMREAD_GRAYSCALE) > 127
                count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
                defects = [(name, parts == k) for k in range(1, count) if stats[k, 4] > 3]
                if not defects:
                    continue
            examples.append(write(tmp_path, path.stem, picture, defects))
    planner = DraftPlanner(examples, CLASSES, PlannerSettings(real_share=1, recombine=0))
    painter = make_baseline("copy-paste")
    for name in CLASSES:
        overlaps, rejected = [], 0
        for k in range(24):
            draft = planner.plan(SampleRequest(class_name=name, index=k, seed=k))
            made = composite(draft, painter.paint([draft])[0])
            overlaps.append((made.mask & draft.mask).sum() / (made.mask | draft.mask).sum())
            rejected += bool(judge(made.scores, MaskRules()))
        assert np.mean(overlaps) > 0.85, name
        assert rejected <= 2, name
