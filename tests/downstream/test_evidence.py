"""What stands behind a verdict, on runs whose predictions are planted."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_runs import plant_runs, planted_report

from downstream.curves import precision_at_recalls
from downstream.dataset import Export, read_export
from downstream.errors import DownstreamError
from downstream.experiment import read_report
from downstream.findings import findings
from downstream.levelled import levelled
from downstream.misses import misses
from downstream.names import is_synthetic
from downstream.runs import Run, read_predictions
from downstream.verdict import headline, verdict_sentence

ARMS = {"real": 0, "copy-paste": 8, "mixed": 8, "mixed@0.8": 24, "full": 0}
SKILL = {"real": 0.35, "copy-paste": 0.5, "mixed": 0.75, "mixed@0.8": 0.85, "full": 0.9}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory, any_export: Callable[..., Path]) -> Export:
    """Five arms, of which `full` alone has the last real images; only read."""
    folder = any_export(tmp_path_factory.mktemp("arms") / "export", arms=ARMS, real=12, held_out=48)
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    reserve = [x for x in lines if x["split"] == "train" and x["kind"] == "real"][-5:]
    for line in reserve:
        line["arms"] = ["full"]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_export(folder)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, export: Export) -> Path:
    """The folder of a report with all that there is in one; only read."""
    home = tmp_path_factory.mktemp("written")
    extras = {
        "sheets": [("A sheet", str(export.items("train")[0].image))],
        "removed": [{"generator": "compact", "rule": "realism", "number": 12}],
        "steps": [{"name": "train compact", "times": 1, "seconds": 33.0, "cpu_seconds": 60.0}],
    }
    planted_report(export, home / "out", SKILL, extras=extras)
    return home / "out"


@pytest.fixture
def report(written: Path) -> dict[str, Any]:
    return read_report(written)


def test_report_holds_what_the_verdict_rests_on(report: dict[str, Any], written: Path) -> None:
    assert read_report(written / "report.json") == report
    assert set(report["differences_to"]) == {"real", "copy-paste"}
    assert report["differences"] == report["differences_to"]["real"]
    beside = report["differences_to"]["copy-paste"]["classification"]["mixed@0.8"]["macro_f1"]
    means = {
        arm: each["metrics"]["macro_f1"]
        for arm, each in report["results"]["classification"].items()
    }
    assert beside["difference"] == pytest.approx(
        means["mixed@0.8"]["mean"] - means["copy-paste"]["mean"], abs=1e-6
    )
    for each in means.values():
        assert 0 <= each["low"] <= each["mean"] <= each["high"] <= 1
    closed = report["closure"]["classification"]["mixed@0.8"]
    gap = means["full"]["mean"] - means["real"]["mean"]
    assert closed["value"] == pytest.approx(
        (means["mixed@0.8"]["mean"] - means["real"]["mean"]) / gap, abs=1e-6
    )
    assert closed["low"] < closed["value"] < closed["high"]
    assert report["power"]["classification"]["needed"].keys() == {"0.02", "0.05", "0.10"}
    assert len(report["hashes"]["test"]) == 64
    assert report["hashes"]["train"]["full"] != report["hashes"]["train"]["real"]
    assert {(c["task"], c["arm"], c["runs"], c["cpu"]) for c in report["costs"]} == {
        (task, arm, 3, 9.0) for task in ("detection", "classification") for arm in ARMS
    }


def test_sentences_name_copy_paste_and_the_gap(report: dict[str, Any]) -> None:
    told = " ".join(report["findings"]["classification"])
    assert "Classification beside copy-paste (macro F1): mixed " in told
    assert re.search(r"between real and full, this much is closed: .*mixed@0\.8 \d+%", told)
    assert "levelled off in full isn't known" in told and "To show a difference" in told
    assert "full" not in report["verdict"] and "mixed@0.8" in report["headline"]
    assert report["headline"].count(".") == report["headline"].count("@0.8") + 1


def test_headline_names_each_class_that_got_worse(report: dict[str, Any]) -> None:
    report["differences"]["detection"]["mixed"]["per_class"]["bar"]["verdict"] = "hurts"
    report["differences"]["detection"]["full"]["per_class"]["dot"]["verdict"] = "hurts"
    assert headline(report).endswith("; worse than before: bar (detection, mixed).")
    assert [arm for arm in ("real", "full", "real:5", "mixed", "a+b@0.5") if is_synthetic(arm)] == [
        "mixed", "a+b@0.5",
    ]  # fmt: skip


def test_no_verdict_below_three_seeds(export: Export, tmp_path: Path) -> None:
    skill = {"real": 0.3, "mixed": 0.9}
    found = planted_report(export, tmp_path / "two", skill, seeds=(0, 1))
    assert found["differences"]["classification"]["mixed"]["macro_f1"]["verdict"] == "no verdict"
    assert "there is no verdict on classification below 3 seeds" in found["headline"].lower()
    assert "No verdict on classification below 3 seeds: mixed +" in found["verdict"]
    assert "--seeds 3" in found["verdict"]
    page = (tmp_path / "two/report.html").read_text()
    assert "– no verdict" in page and ">▲ helps<" not in page


def test_a_training_that_still_rises_is_named_on_top(report: dict[str, Any]) -> None:
    rising = {
        "levelled": False,
        "before": 0.31,
        "after": 0.43,
        "steps": [700, 1600],
        "by": "checks",
    }
    report["levelled"]["detection"] = {"full": rising, "mixed": {**rising, "levelled": True}}
    assert "Detection has not levelled off: full still rose on val (full: 0.310 at step 700, " in (
        verdict_sentence(report)
    )
    report["levelled"]["detection"]["full"] = {**rising, "levelled": True}
    assert "has not levelled off" not in verdict_sentence(report)
    assert "levelled off on val in full, mixed" in " ".join(findings(report)["detection"])


def test_levelled_by_checks_and_by_shorter_runs(tmp_path: Path) -> None:
    def run(steps: int, seed: int, value: float, checks: list[list[float]]) -> tuple[Run, dict]:
        inputs = {"task": "detection", "seed": seed, "settings": {"detection_steps": steps}}
        folder = tmp_path / f"runs/detection-seed{seed}-{steps}"
        folder.mkdir(parents=True)
        result = {"metrics": {"val": {"map50": value}}, "checks": checks}
        (folder / "config.json").write_text(
            json.dumps({"key": "k", "arm": "full", "sources": [str(steps)], **inputs})
        )
        (folder / "result.json").write_text(json.dumps(result))
        return Run("detection", "full", seed, f"{steps}-{seed}", folder, inputs), result

    made = {(s, k): run(s, k, v, []) for s, k, v in (
        (700, 0, 0.1), (700, 1, 0.2), (1600, 0, 0.4), (1600, 1, 0.5), (1500, 0, 0.41),
    )}  # fmt: skip
    results = {each.key: result for each, result in made.values()}
    long = [made[1600, 0][0], made[1600, 1][0]]
    found = levelled("detection", long, results)
    assert found == {
        "levelled": False, "by": "shorter runs", "before": pytest.approx(0.15),
        "after": pytest.approx(0.45), "steps": [700, 1600],
    }  # fmt: skip
    assert levelled("detection", [made[700, 0][0], made[700, 1][0]], results) is None
    flat = [[k * 100, v] for k, v in enumerate((0.1, 0.3, 0.41, 0.42, 0.42, 0.42), start=1)]
    steep = [[k * 100, v] for k, v in enumerate((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), start=1)]
    for checks, flat_out in ((flat, True), (steep, False)):
        own = {each.key: {**results[each.key], "checks": checks} for each in long}
        found = levelled("detection", long, own)
        assert found is not None and found["levelled"] is flat_out and found["by"] == "checks"
        assert found["steps"] == [400, 600]


def test_curves_of_classes_count_threshold_by_threshold(export: Export, tmp_path: Path) -> None:
    runs, _ = plant_runs(export, tmp_path / "out", "classification", {"real": 0.6}, [0])
    rows = read_predictions(runs[0], "test")
    rng = np.random.default_rng(0)
    for row in rows:
        row["probabilities"] = rng.dirichlet(np.ones(3)).tolist()
    (runs[0].folder / "predictions-test.json").write_text(json.dumps(rows))
    labels = ["dot", "bar", "good"]
    curves = precision_at_recalls(export, "classification", runs, labels)
    assert list(curves) == ["dot", "bar"]
    for k, label in enumerate(curves):
        truth = np.array([row["target"] == k for row in rows])
        scores = np.array([row["probabilities"][k] for row in rows])
        points = [
            ((truth & (scores >= t)).sum() / truth.sum(), truth[scores >= t].mean()) for t in scores
        ]
        best = [max(p for r, p in points if r >= recall) for recall in np.linspace(0, 1, 101)]
        assert curves[label] == pytest.approx(best, abs=1e-4)


def test_curve_of_boxes_has_the_area_that_is_reported(export: Export, tmp_path: Path) -> None:
    runs, results = plant_runs(export, tmp_path / "out", "detection", {"real": 0.6}, [0])
    curves = precision_at_recalls(export, "detection", runs, list(export.classes))
    reported = results[runs[0].key]["metrics"]["test"]["ap50_per_class"]
    assert [np.mean(curve) for curve in curves.values()] == pytest.approx(reported, abs=1e-3)


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_misses_count_what_one_finds_and_the_other_does_not(
    export: Export, tmp_path: Path, task: Any
) -> None:
    runs, results = plant_runs(export, tmp_path / "out", task, {"real": 0.0, "mixed": 1.0}, [0, 1])
    base, arm = ([run for run in runs if run.arm == name] for name in ("real", "mixed"))
    seen = misses(export, task, base, arm, results)
    assert seen["counts"] == {"defects": 32, "found_only": 32, "lost": 0, "neither": 0}
    assert len(seen["found_only"]) == 8 and seen["lost"] == []
    first = seen["found_only"][0]
    assert (first["base"]["found"], first["arm"]["found"]) == (0.0, 1.0)
    assert (export.folder / first["image"]).is_file()
    back = misses(export, task, arm, base, results)
    assert back["counts"]["lost"] == 32 and back["counts"]["found_only"] == 0
    same = misses(export, task, base, base, results)
    assert same["counts"] == {"defects": 32, "found_only": 0, "lost": 0, "neither": 32}


def test_page_shows_curves_ratio_shots_misses_and_sheets(
    report: dict[str, Any], written: Path
) -> None:
    page = (written / "report.html").read_text()
    assert not re.search(r"https?:|<script|<link|@import|url\((?!#)", page)
    for text in (
        "Gain over the ratio", "How many real images is it worth?", "Precision over recall",
        "Found only with synthetic images", "What the filters removed", "A sheet",
        "train compact", report["hashes"]["test"], "<details><summary>Settings, hashes",
    ):  # fmt: skip
        assert text in page, text
    assert page.count("data:image/jpeg;base64,") > 8
    assert report["headline"] in page


def test_reports_of_other_schemas_say_what_to_type(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for schema, words in ((1, "schema 1, which an older version wrote"), (7, "but of 7")):
        path.write_text(json.dumps({"schema": schema}))
        with pytest.raises(DownstreamError, match=f"{words}.*augment evaluate"):
            read_report(path)
    path.write_text("{")
    with pytest.raises(DownstreamError, match=r"can't be read as a report.*augment evaluate"):
        read_report(path)
    with pytest.raises(DownstreamError, match=r"no report in .*nothing; write one: augment eval"):
        read_report(tmp_path / "nothing")
