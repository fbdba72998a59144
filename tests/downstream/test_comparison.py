"""Differences of a report, on runs whose predictions are planted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_runs import plant_runs

from downstream.comparison import compare, correct_over_arms
from downstream.config import ExperimentConfig
from downstream.dataset import read_export

CONFIG = ExperimentConfig(bootstrap_samples=200, device="cpu")


@pytest.mark.parametrize(
    ("task", "metric"), [("detection", "map50"), ("classification", "accuracy")]
)
def test_val_and_test_are_compared_apart(
    make_export: Callable[..., Path], tmp_path: Path, task: str, metric: str
) -> None:
    export = read_export(make_export(held_out=60, arms={"real": 0, "mixed": 4}))
    skill = {"real": {"val": 0.5, "test": 0.9}, "mixed": {"val": 0.95, "test": 0.5}}
    runs, results = plant_runs(export, tmp_path / "out", task, skill)
    on_val = compare(export, CONFIG, task, runs, results, "real", "val")["mixed"][metric]
    on_test = compare(export, CONFIG, task, runs, results, "real")["mixed"][metric]
    assert on_val["verdict"] == "helps" and on_val["low"] > 0
    assert on_test["verdict"] == "hurts" and on_test["high"] < 0
    for split, gap in (("val", on_val), ("test", on_test)):
        of = {
            arm: sum(r["metrics"][split][metric] for r in results.values() if r["arm"] == arm) / 3
            for arm in skill
        }
        assert gap["difference"] == pytest.approx(of["mixed"] - of["real"], abs=1e-6)


def test_any_arm_can_be_the_baseline(make_export: Callable[..., Path], tmp_path: Path) -> None:
    export = read_export(make_export(held_out=60))
    skill = {"real": 0.5, "mixed": 0.9}
    runs, results = plant_runs(export, tmp_path / "out", "classification", skill)
    to_real = compare(export, CONFIG, "classification", runs, results, "real")
    to_mixed = compare(export, CONFIG, "classification", runs, results, "mixed")
    assert list(to_real) == ["mixed"] and list(to_mixed) == ["real"]
    assert to_mixed["real"]["accuracy"]["difference"] == pytest.approx(
        -to_real["mixed"]["accuracy"]["difference"]
    )
    assert to_mixed["real"]["accuracy"]["verdict"] == "hurts"
    assert compare(export, CONFIG, "classification", runs, results, "full") == {}
    assert compare(export, CONFIG, "classification", runs, results, None) == {}


def test_what_decides_is_corrected_over_the_synthetic_arms_of_all_tasks() -> None:
    def gap(p: float) -> dict[str, Any]:
        return {"difference": 0.1, "low": 0.01, "high": 0.19, "p": p, "verdict": "helps"}

    found = {
        "detection": {
            "mixed": {"map50": gap(0.03), "map": gap(0.03)},
            "full": {"map50": gap(0.03)},
        },
        "classification": {"mixed": {"macro_f1": gap(0.001)}, "a@0.5": {"macro_f1": gap(0.04)}},
    }
    correct_over_arms(found, {"detection": "map50", "classification": "macro_f1"}, 0.95)
    told = {
        (task, arm, name): (each["verdict"], each.get("p_holm"))
        for task, arms in found.items()
        for arm, gaps in arms.items()
        for name, each in gaps.items()
    }
    assert told == {
        ("detection", "mixed", "map50"): ("no evidence", pytest.approx(0.06)),
        ("detection", "mixed", "map"): ("helps", None),
        ("detection", "full", "map50"): ("helps", None),
        ("classification", "mixed", "macro_f1"): ("helps", pytest.approx(0.003)),
        ("classification", "a@0.5", "macro_f1"): ("no evidence", pytest.approx(0.06)),
    }
