"""Two reports side by side."""

import copy
from typing import Any

import pytest

from downstream.compare_reports import compare_reports


def report(values: dict[str, float], shots: int = 5, **settings: Any) -> dict[str, Any]:
    def counts(arm: str) -> dict[str, int]:
        return {"images": 40, "real": 30 + shots, "clean": 30, "synthetic": 5 * (arm == "mixed")}

    gap = {"difference": 0.1, "low": 0.05, "high": 0.15, "verdict": "helps"}
    return {
        "tasks": ["detection"],
        "arms": list(values),
        "seeds": [0, 1, 2],
        "primary": {"detection": "map50"},
        "results": {
            "detection": {arm: {"metrics": {"map50": {"mean": v}}} for arm, v in values.items()}
        },
        "differences": {"detection": {"mixed": {"map50": gap}} if "mixed" in values else {}},
        "counts": {
            "train": {arm: counts(arm) for arm in values},
            "val": {"images": 9},
            "test": {"images": 10},
        },
        "hashes": {"test": "a1"},
        "settings": {"detection_steps": 600, "jobs": 1, **settings},
        "versions": {"torch": "2.15.0"},
    }


def test_arms_gains_and_shots_stand_side_by_side() -> None:
    a = report({"real": 0.2, "mixed": 0.3})
    b = report({"real": 0.25, "full": 0.6}, shots=12)
    found = compare_reports(a, b)
    assert [(line.arm, line.values, line.shots) for line in found.lines] == [
        ("real", (0.2, 0.25), (5, 12)),
        ("mixed", (0.3, None), (5, None)),
        ("full", (None, 0.6), (None, 12)),
    ]
    assert found.lines[1].gains[0]["verdict"] == "helps" and found.lines[1].gains[1] is None
    assert found.shots_differ and found.same_test and found.settings == {}


def test_what_was_measured_otherwise_is_not_called_comparable() -> None:
    def of(task: str, **settings: Any) -> dict[str, Any]:
        made = report({"real": 0.2, "mixed": 0.3}, **settings)
        for key in ("results", "differences"):
            made[key] = {task: made[key]["detection"]}
        return made | {"tasks": [task], "primary": {task: "map50"}}

    same = compare_reports(of("detection", with_good=True), of("detection", with_good=False))
    assert same.sentence.endswith("so their numbers compare.")
    for task, name in (("classification", "with_good"), ("localisation", "localisation_px")):
        found = compare_reports(of(task, **{name: 0}), of(task, **{name: 1}))
        assert f"measured otherwise in {task}, so compare the gains" in found.sentence


def test_what_trainings_started_from_is_compared_and_not_where_it_was_looked_for() -> None:
    runs = [
        {"task": "detection", "weights": name} for name in ("yolo11n.yaml, random weights", None)
    ]
    a = report({"real": 0.3}, weights_dir="/a") | {"runs": runs}
    b = report({"real": 0.6}, weights_dir="/b") | {
        "runs": [{"task": "detection", "weights": "/w/yolo11n.pt"}]
    }
    assert compare_reports(a, b).settings == {
        "detection started from": ("yolo11n.yaml, random weights", "/w/yolo11n.pt")
    }


@pytest.mark.parametrize("changed", ["settings", "versions", "seeds", "test"])
def test_what_differs_is_named(changed: str) -> None:
    a = report({"real": 0.2})
    b = copy.deepcopy(a)
    b["settings"]["jobs"] = 8  # changes nothing that is measured
    if changed == "settings":
        b["settings"]["detection_steps"] = 1600
        assert compare_reports(a, b).settings == {"detection_steps": (600, 1600)}
    elif changed == "versions":
        b["versions"]["torch"] = "2.16.0"
        assert compare_reports(a, b).settings == {"torch": ("2.15.0", "2.16.0")}
    elif changed == "seeds":
        b["seeds"] = [0, 1, 2, 3, 4]
        assert compare_reports(a, b).settings == {"seeds": (3, 5)}
    else:
        b["hashes"]["test"] = "b2"
        found = compare_reports(a, b)
        assert not found.same_test and "different images or labels" in found.sentence
    assert not compare_reports(a, b).shots_differ
