"""The loop on a small project: choices on val, test looked at once, killed and continued."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import augment, kill_when

from augmentor.cli.errors import EXIT_LEAK, EXIT_PROJECT
from augmentor.errors import ProjectError
from augmentor.records_io import load_records
from augmentor.workflows import loop
from augmentor.workflows.arms import write_arms_export
from augmentor.workflows.decisions import hand_decisions
from augmentor.workflows.evaluate import evaluation_config
from augmentor.workflows.loop import Asked, _key, _refuse_known_start, _settings
from augmentor.workflows.loop_end import _refuse_other_decisions
from augmentor.workflows.loop_offers import Bench
from augmentor.workflows.loop_state import START, Offer, State, read_state
from augmentor.workflows.project import open_project
from augmentor.workflows.reporting import Silent
from downstream.errors import LeakError
from downstream.outcomes import DefectOutcome

SHORT = {
    "tasks": ["classification"],
    "seeds": 1,
    "classification_steps": 3,
    "classification_px": 32,
    "classification_batch": 4,
    "bootstrap_samples": 100,
    "precision": "fp32",
    "device": "cpu",
}
LOOP = ("loop", "--generators", "copy-paste", "--ratios", "0.3,0.5", "--runs", "3")


@pytest.fixture
def short(project: Callable[[], Path]) -> Callable[[], Path]:
    """Makes the project anew, with trainings of a few steps."""

    def fresh() -> Path:
        folder = project()
        config = yaml.safe_load((folder / "augment.yaml").read_text())
        (folder / "augment.yaml").write_text(yaml.safe_dump({**config, "evaluate": SHORT}))
        return folder

    return fresh


def state_of(folder: Path) -> State:
    state = read_state(folder / "loop")
    assert state is not None
    return state


def timeless(folder: Path) -> dict[str, Any]:
    """The state without what the clock has written."""
    content = json.loads((folder / "loop" / "state.json").read_text())
    return {**content, "seconds": 0, "tests": [{**t, "time": ""} for t in content["tests"]]}


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def results_in(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.glob("*/runs/*/result.json")}


def make_it_end(folder: Path, arm: str) -> None:
    """Let the loop have stopped with this arm of the sweep: what short trainings would choose is a
    matter of chance, and the end has to be tested whatever they choose."""
    path = folder / "loop" / "state.json"
    state = json.loads(path.read_text())
    state["rounds"] = state["rounds"][:1]
    state["rounds"][0] |= {"adopted": arm, "closed": True}
    state |= {"stopped": "Stopped by a test.", "finished": False, "verdict": "", "tests": []}
    path.write_text(json.dumps(state))


def test_what_trainings_start_from_is_looked_at_before_anything_is_chosen(short, tmp_path):
    """It must not know test, and of another one a loop that was begun would not go on."""
    folder, run = short(), tmp_path / "start"
    sides = {record.split: record for record in load_records(folder / "data")}
    path = folder / "augment.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(
        yaml.safe_dump({**config, "evaluate": {**SHORT, "classifier": str(run)}}, sort_keys=False)
    )
    run.mkdir()
    (run / "model.json").write_text(json.dumps({"kind": "torchvision-classify"}))
    (run / "result.json").write_text("{}")

    def started(weights: bytes, known: str) -> str:
        (run / "weights.safetensors").write_bytes(weights)
        about = {"settings": {}, "train": [[known]]}
        (run / "config.json").write_text(json.dumps(about))
        project, asked = open_project(folder), Asked(runs=3)
        settings, generators = _settings(project, asked)
        _refuse_known_start(project, settings)
        return _key(project, settings, asked, generators)

    known = sides["train"].sha256
    assert started(b"one", known) == started(b"one", known) != started(b"another", known)
    for learned in (sides["test"].id, sides["test"].sha256):
        with pytest.raises(LeakError, match=r"has learned from \S+, which is in test here"):
            started(b"one", learned)
    code, output = augment(*LOOP, "--project", folder)
    assert code == EXIT_LEAK and "which is in test here" in output
    assert not (folder / "loop").exists()


def test_a_protocols_settings_hold_where_the_loop_chooses_too(short):
    folder = short()
    path = folder / "augment.yaml"
    config = yaml.safe_load(path.read_text())
    del config["evaluate"]
    path.write_text(yaml.safe_dump({**config, "split": {"protocol": "anomalydiffusion"}}))
    for task in ("localisation", "classification"):
        settings, _ = _settings(open_project(folder), Asked(task=task))
        theirs = evaluation_config(open_project(folder), {}, protocol="anomalydiffusion")
        assert settings.training_settings(task) == theirs.training_settings(task)
        assert settings.tasks == (task,) and settings.measure == "val"
    assert _settings(open_project(folder), Asked())[0].tasks[0] in theirs.tasks


@pytest.fixture
def learned(monkeypatch):
    """So few steps teach nothing; what comes after is what is looked at."""
    monkeypatch.setattr(loop, "is_learned", lambda *_: True)


def test_the_whole_way(short, learned):
    folder = short()
    code, output = augment(*LOOP, "--project", folder)
    assert code == 0, output
    state = state_of(folder)
    assert "The budget of 3 trainings is spent." in output
    assert len(state.trained) == 3
    assert [t.arm for t in state.rounds[0].trials] == ["copy-paste@0.3", "copy-paste@0.5"]

    # until here nothing has seen test: neither the training sets nor a run
    exported = folder / "loop" / "export"
    lines = lines_of(exported)
    assert {line["split"] for line in lines} == {"train", "val"}
    assert not list((exported / "images" / "test").iterdir())
    for path in (folder / "loop" / "runs").glob("*/result.json"):
        assert list(json.loads(path.read_text())["metrics"]) == ["val"]
    assert not list((folder / "loop" / "runs").glob("*/*test*"))

    make_it_end(folder, "copy-paste@0.5")
    code, output = augment(*LOOP, "--project", folder, "--json")
    assert code == 0, output
    state = state_of(folder)
    assert state.finished and len(state.tests) == 1
    mix = json.loads((folder / "loop" / "mix.json").read_text())
    splits = {r.id: r.split for r in load_records(folder / "data")}
    dataset = [
        json.loads(line)
        for line in (folder / "dataset" / "manifest.jsonl").read_text().splitlines()
    ]
    made = [line for line in dataset if line["kind"] == "synthetic"]
    assert {line["id"] for line in made} == {one["id"] for one in mix["samples"]}
    assert mix["generators"] == {"copy-paste": 20} and len(made) == 20
    assert {splits[source] for line in made for source in line["source_ids"]} == {"train"}
    report = json.loads((folder / "loop" / "test.json").read_text())
    assert report["arms"] == ["real", "classical", "copy-paste", "mixed"]
    assert report["counts"]["train"]["mixed"]["synthetic"] == 20
    page = (folder / "loop" / "report.html").read_text()
    assert state.verdict == report["verdict"] and "Stopped by a test." in page
    assert "copy-paste@0.5" in page and "<script" not in page and "http" not in page

    # once is once
    before, at_end = results_in(folder), timeless(folder)
    code, output = augment(*LOOP, "--project", folder)
    assert code == 0
    assert state.verdict.split(".")[0] in " ".join(output.split())
    assert results_in(folder) == before and timeless(folder) == at_end
    code, output = augment(*LOOP, "--seeds", "2", "--project", folder)
    assert code == EXIT_PROJECT
    assert "earlier loops have looked at test 1 time;" in " ".join(output.split())
    assert "augment loop --restart" in output
    assert results_in(folder) == before


def test_where_nothing_is_gained_test_is_not_looked_at(short, learned):
    folder = short()
    code, output = augment(*LOOP[:-1], "1", "--project", folder)
    assert code == 0, output
    state = state_of(folder)
    assert state.finished and state.tests == () and state.incumbent == START
    assert (
        "test was not looked at" in state.verdict
        and "Test was not looked at." in (folder / "loop" / "report.html").read_text()
    )
    assert not (folder / "evaluation").exists() and not (folder / "dataset").exists()

    # a larger budget goes on where the smaller one ended
    trained = set(state.trained)
    code, output = augment(*LOOP, "--project", folder)
    assert code == 0, output
    assert "it goes on" in output and "The budget of 3 trainings is spent." in output
    assert trained < set(state_of(folder).trained) and len(state_of(folder).trained) == 3

    # the number of looks is kept by a restart
    path = folder / "loop" / "state.json"
    looked = {"key": "k", "mix": "m", "time": "2026-11-25T00:00:00Z"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "tests": [looked, looked]}))
    code, output = augment(*LOOP[:-1], "1", "--restart", "--project", folder)
    assert code == 0, output
    assert "loops of this project have looked at test 2 times" in " ".join(output.split())
    assert len(state_of(folder).tests) == 2


def test_killed_and_continued(short):
    folder = short()
    assert augment(*LOOP, "--project", folder)[0] == 0
    undisturbed = timeless(folder)

    folder = short()
    path = folder / "loop" / "state.json"

    def one_trial() -> bool:
        return path.exists() and len(json.loads(path.read_text())["rounds"][0]["trials"]) == 1

    kill_when(folder, LOOP, one_trial)
    assert not state_of(folder).finished
    assert augment(*LOOP, "--project", folder)[0] == 0
    assert timeless(folder) == undisturbed


def outcomes_of(folder: Path, found: float, boxes: bool = False) -> list[DefectOutcome]:
    """Of each val image's first defect, as detection has them (with boxes) or classification."""
    return [
        DefectOutcome(
            r.id, r.instances[0].box_xyxy if boxes else None, r.label, found, 0.0, 1 - found
        )
        for r in load_records(folder / "data")
        if r.split == "val" and not r.is_clean
    ]


def test_a_round_makes_what_val_needs_from_the_train_split_alone(short):
    folder = short()
    bench = Bench(open_project(folder), ["copy-paste"], Silent())
    (start,) = bench.sweep([0.5])
    val = [o for o in outcomes_of(folder, 0.0) if o.class_name == "pit"]
    needs, offers = bench.round(start, val, [])
    assert [line.class_name for line in needs] == ["pit"] and needs[0].missed == len(val)
    kinds = [offer.kind for offer in offers]
    assert kinds[:2] == ["more", "swap"] and set(kinds[2:]) == {"without"}
    more, swap = offers[:2]
    new = set(more.samples) - set(start.samples)
    assert len(new) == 5 and {name for _, _, name in new} == {"pit"}
    assert len(swap.samples) == len(start.samples) and new <= set(swap.samples)
    gone = set(start.samples) - set(swap.samples)
    needed = {bench._kinds.of_outcome(outcome) for outcome in val}
    assert len(gone) == 5 and not needed & {bench._cells[one] for _, one, _ in gone}
    for offer in offers[2:]:
        assert set(offer.samples) < set(start.samples)
    # what was tried once is not tried again
    past = [state_round(0, start, ()), state_round(1, start, offers)]
    _, again = bench.round(start, val, past)
    assert not {frozenset(o.samples) for o in again} & {frozenset(o.samples) for o in offers}

    # detection asks for the same by boxes
    boxed = [o for o in outcomes_of(folder, 0.0, boxes=True) if o.class_name == "pit"]
    assert bench.round(start, boxed, []) == (needs, offers)

    # nothing is made where val lacks nothing
    _, rest = bench.round(start, outcomes_of(folder, 1.0), [])
    assert {offer.kind for offer in rest} == {"without"}

    export = write_arms_export(
        bench.project, folder / "loop" / "export", {"more": bench.arm(more)}, without_test=True
    )
    lines = lines_of(export)
    splits = {r.id: r.split for r in bench.records}
    sources = {s for line in lines for s in line["source_ids"]}
    assert sources and {splits[source] for source in sources} == {"train"}


def state_round(number: int, start: Any, offers: Any) -> Any:
    from augmentor.workflows.loop_state import Round

    return Round(number=number, start=start, offers=offers, closed=True)


def test_what_was_rejected_while_a_loop_ran_never_sees_test(short):
    folder = short()
    code, output = augment(
        *("sample", "-n", "4", "--class", "pit", "--generator", "copy-paste"), "--project", folder
    )
    assert code == 0, output
    ids = [line["id"] for line in lines_of(folder / "pool" / "copy-paste")]
    best = Offer(
        arm="copy-paste@0.5", kind="sweep", what="a mix", ratio=0.5,
        samples=tuple(("copy-paste", name, "pit") for name in ids),
    )  # fmt: skip
    _refuse_other_decisions(hand_decisions(open_project(folder)), best)
    for action in (("relabel", "--class", "stain"), ("reject",)):
        code, output = augment(
            "decisions", "add", action[0], ids[0], *action[1:], "--project", folder
        )
        assert code == 0, output
        with pytest.raises(ProjectError, match=rf"1 samples .* such as {ids[0]}, .* --restart"):
            _refuse_other_decisions(hand_decisions(open_project(folder)), best)


def test_a_sample_made_from_val_is_refused(short):
    folder = short()
    held_out = next(r for r in load_records(folder / "data") if r.split == "val")
    assert augment("sample", "-n", "10", "--generator", "copy-paste", "--project", folder)[0] == 0
    path = folder / "pool" / "copy-paste" / "manifest.jsonl"
    lines = lines_of(path.parent)
    for line in lines:
        line["mask_source_id"] = held_out.id
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, output = augment(*LOOP, "--project", folder)
    assert code == EXIT_LEAK
    assert held_out.id in output and "is in the val split" in " ".join(output.split())
    shutil.rmtree(folder / "loop")
