"""The study of a night: which mix it judges, by what, and what it says of planted effects."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from gain import (
    MIXES,
    base,
    compared,
    judged,
    labels,
    overview,
    preferred,
    rising,
    scratch_settings,
    started,
    worse,
)

from downstream.config import STARTS

MIXED, DIFFUSION = MIXES


def planted(val: np.ndarray, test: np.ndarray) -> dict[int, dict]:
    """Macro F1 of an arm on both sides, by split."""

    def one(value: float) -> dict:
        return dict.fromkeys(("accuracy", "macro_f1", "balanced_accuracy"), float(value))

    both = zip(val, test, strict=True)
    return {split: {"val": one(v), "test": one(t)} for split, (v, t) in enumerate(both, start=37)}


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    real, gap = rng.normal(0.5, 0.1, 4), rng.normal(0.2, 0.01, 4)
    found = {
        "real": planted(real, real),
        "plain-paste": planted(real, real + 0.1 * gap),
        "copy-paste": planted(real, real + 0.8 * gap),
        # the better one on val is the worse one on test
        MIXED: planted(real + 0.1, real + gap / 2),
        DIFFUSION: planted(real, real + 0.9 * gap),
        "full": planted(real, real + gap),
    }
    return {("classification", arm): of for arm, of in found.items()}


def test_the_mix_is_chosen_on_val_and_judged_on_test(rows):
    lines = judged(rows, {"classification": 0.5}).split("\n")
    title, verdict, gap, against_real, against_plain, against_paste = lines
    assert "val prefers" in title
    assert verdict.startswith(f"- classification (macro_f1): {MIXED}, closes 50% [50%, 50%]")
    assert verdict.endswith("the aim is 50%")
    assert "full against real: +0.2" in gap and "helps (4 splits)" in gap
    assert f"{MIXED} against real: +0.1" in against_real and "helps (4 splits)" in against_real
    assert "against copy-paste: -0.0" in against_paste and "hurts" in against_paste
    assert "against plain-paste: +0.0" in against_plain and "helps" in against_plain


def test_a_mix_is_chosen_on_splits_that_have_them_all(rows):
    metric, task = "macro_f1", "classification"
    assert preferred(rows, task, MIXES, metric) == MIXED
    # a split on which the other one alone was trained, and did well, tells nothing
    rows[task, DIFFUSION][41] = {"val": {metric: 5.0}, "test": {metric: 0.0}}
    assert preferred(rows, task, MIXES, metric) == MIXED


def test_what_is_said_of_pairs_of_arms_is_corrected():
    real = np.random.default_rng(1).normal(0.5, 0.1, 6)
    arms = {"real": real, "full": np.add(real, [0.01, 0.09, 0.0, 0.1, 0.02, 0.08])}
    rows = {("classification", arm): planted(own, own) for arm, own in arms.items()}
    asked = {"one": ("full", "real"), "none": ("mixed", "real")}
    p = stats.ttest_rel(arms["full"], arms["real"]).pvalue
    assert 0.02 < p < 0.05
    (alone,) = compared(rows, "classification", "macro_f1", asked).values()
    assert f"p Holm {p:.3f}, helps (6 splits)" in alone
    both = compared(rows, "classification", "macro_f1", {**asked, "again": ("full", "real")})
    assert all(f"p Holm {2 * p:.3f}, no evidence" in each for each in both.values())
    first = {key: {37: own[37]} for key, own in rows.items()}
    assert compared(first, "classification", "macro_f1", asked)["one"].endswith("(one split)")


def test_nothing_is_said_without_a_gap_or_a_mix(rows):
    rows["classification", "full"] = rows["classification", "real"]
    found = judged(rows, {}).split("\n")[1]
    assert "not defined" in found and found.endswith("no aim is set")
    for mix in MIXES:
        del rows["classification", mix]
    assert "no mix was measured" in judged(rows, {})


@pytest.mark.parametrize("task", STARTS)
def test_a_table_pretrains_nothing(tmp_path, task):
    assert base(tmp_path, task, only=True) is None
    run = tmp_path / "runs" / f"{task}-seed0-abc"
    (tmp_path / f"pretrained-{task}.json").write_text(f'{{"run": "runs/{run.name}"}}')
    assert base(tmp_path, task, only=True) is None, "killed before it was finished"
    run.mkdir(parents=True)
    (run / "result.json").touch()
    assert base(tmp_path, task, only=False) == run


def test_a_ceiling_that_still_rises_is_named(tmp_path):
    assert rising([tmp_path], ("classification",)) == []
    for split, ends in ((1, True), (2, False)):
        folder = tmp_path / str(split) / "evaluation"
        folder.mkdir(parents=True)
        levelled = {"classification": {"full": {"levelled": ends}, "real": {"levelled": False}}}
        (folder / "report.json").write_text(json.dumps({"levelled": levelled}))
    (line,) = rising([tmp_path / "1", tmp_path / "2"], ("detection", "classification"))
    assert line.startswith("- classification: full still rose") and "in 1 of 2 splits" in line


def test_a_class_that_got_worse_is_named(tmp_path):
    folder = tmp_path / "evaluation" / "runs" / "detection-seed1-abc"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"task": "detection", "labels": ["dot", "bar", "rare"]}')
    classes = labels([tmp_path])["detection"]
    real = {split: {"test": {"ap50_per_class": [0.5, 0.5, None]}} for split in range(4)}
    mixed = {k: {"test": {"ap50_per_class": [0.3 + k / 99, 0.6, None]}} for k in range(4)}
    rows = {("detection", "real"): real, ("detection", "mixed"): mixed}
    found = worse(rows, "detection", "mixed", classes)
    assert found.startswith("worse than real on average: dot -0.185 [") and "hurts" in found
    assert "bar" not in found and "rare" not in found
    assert worse(rows | {("detection", "mixed"): real}, "detection", "mixed", classes).endswith(
        "no class"
    )


def test_the_overview_has_every_arm_on_the_same_splits():
    def one(value: float, bar: float | None) -> dict:
        return {"test": {"macro_f1": value, "f1_per_class": [value, bar]}}

    rows = {
        ("classification", "real"): {1: one(0.2, None), 2: one(0.4, 0.5), 3: one(0.9, 0.9)},
        ("classification", "full"): {1: one(0.6, None), 2: one(0.8, 0.7)},  # 3 still runs
    }
    found = overview(rows, ("real", "mixed", "full"), {"classification": ["dot", "bar"]})
    assert found.split("\n")[2:] == [
        "| classification | macro F1 | 2 | 0.300 |  | 0.700 |",
        "| classification | dot | 2 | 0.300 |  | 0.700 |",
        "| classification | bar | 2 | 0.500 |  | 0.700 |",
    ]


def test_what_the_start_is_worth_is_told_beside_arms_from_scratch(rows):
    real, full = (
        np.array([own["test"]["macro_f1"] for own in rows["classification", arm].values()])
        for arm in ("real", "full")
    )
    none = started(rows, {}, {})
    assert none.endswith("nothing was trained from scratch yet")
    scratch = {
        ("classification", "real"): planted(real - 0.2, real - 0.2 + np.arange(4) / 99),
        ("classification", "copy-paste"): planted(real, real - 0.1 + np.arange(4) / 99),
    }
    told = started(rows, scratch, {})
    assert "| classification | macro F1 | 4 |" in told
    head, worth, against_real, against_paste, drawn, mixed = told.split("\n")[-6:]
    assert head == "- classification (macro_f1):"
    assert worth.startswith("  real against real, from scratch: +0.185 [")
    assert against_real.startswith(f"  {MIXED} against real, from scratch: +0.28")
    assert against_paste.startswith(f"  {MIXED} against copy-paste, from scratch: +0.18")
    start = 0.2 - np.arange(4).mean() / 99
    share = start / (start + (full - real).mean())
    assert f"real, from drawn defects, closes {share:.0%} [" in drawn
    assert f"{MIXED}, closes" in mixed


def test_only_what_would_start_from_drawn_defects_is_trained_from_scratch_too():
    settings = {"tasks": ("detection", "localisation"), "arms": ("real", "mixed", "full")}
    found = scratch_settings(settings)
    assert found["tasks"] == ("detection", "localisation") and found["arms"] == ("real",)
    assert "detector" not in found
    assert scratch_settings(settings | {"detector": "own.pt"})["tasks"] == ("localisation",)
    own = {"detector": "own.pt", "localiser": "folder"}
    assert scratch_settings(settings | own)["tasks"] == ()
    assert scratch_settings(settings | {"arms": ("mixed", "full")})["tasks"] == ()
