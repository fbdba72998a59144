"""What the filters remove, shown and counted; thresholds refitted to decisions; contact sheets."""

import json
import shutil

import numpy as np
import pytest
import yaml
from helpers import augment
from PIL import Image

from augmentor.cli.errors import EXIT_PROJECT, EXIT_USAGE
from augmentor.decisions import Decision, append_decisions, now
from augmentor.workflows import scoring
from augmentor.workflows.generators import training_examples
from augmentor.workflows.judging import judged_samples
from augmentor.workflows.project import open_project
from augmentor.workflows.reporting import Silent


def run(*arguments):
    code, output = augment(*arguments)
    assert code == 0, output
    return output


@pytest.fixture(scope="module")
def sampled(imported, tmp_path_factory):
    """A project with pools of three kinds; copied before anything is decided."""
    folder = tmp_path_factory.mktemp("filtered") / "project"
    shutil.copytree(imported, folder)
    for generator, number in (("copy-paste", 25), ("perlin", 10)):
        run("sample", "-n", str(number), "--generator", generator, "--project", folder)
    config = yaml.safe_load((folder / "augment.yaml").read_text())
    # perlin imitates no class; here it is judged like any other generator
    config["filters"] = {"exempt": {"perlin": []}}
    # a rule that some of both break, whatever a machine's floats make of the learnt extractor
    config["filters"]["mask"] = {"least_contrast": 3.0}
    (folder / "augment.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


@pytest.fixture
def fresh(sampled, tmp_path):
    return shutil.copytree(sampled, tmp_path / "project")


def report(folder, *arguments):
    code, output = augment("filters", "report", "--project", folder, "--json", *arguments)
    assert code == 0, output
    return json.loads(output[output.index("{") :])


def test_the_report_counts_each_rule_alone_and_with_others(sampled):
    found = report(sampled)
    assert found["generators"] == {"copy-paste": 25, "perlin": 10}
    assert found["scored_by"][0].startswith("own-")
    rules, overlap = found["rules"], found["overlap"]
    assert found["rejected"] <= sum(row["rejected"] for row in rules.values())
    assert found["rejected"] >= max(row["rejected"] for row in rules.values()) > 0
    for name, row in rules.items():
        assert overlap[name][name] == row["rejected"] == sum(row["per_class"].values())
        assert row["alone"] <= row["rejected"]
        assert all(overlap[name][other] == overlap[other][name] for other in rules)
    assert rules["realism"]["thresholds"] == {"filters.quality.realism.most": 1.0}
    assert json.loads((sampled / "quality" / "filters.json").read_text()) == found
    assert Image.open(found["sheet"]).size[0] > 100


def test_noise_textures_are_told_from_real_defects(sampled):
    """By their middles: which of ten lies past a bound hangs on the machine's floats."""
    project = open_project(sampled)
    train = training_examples(project)

    def middle(generator, score):
        samples = judged_samples(project, train, Silent(), generator)
        return np.median([sample.record.scores[score] for sample in samples])

    assert middle("perlin", "realism") > 1.2 * middle("copy-paste", "realism")
    assert middle("perlin", "class_agreement") < middle("copy-paste", "class_agreement")


def test_what_was_made_of_an_image_of_val_or_test_teaches_nothing(sampled, monkeypatch):
    """As after an import that split anew; what the scorer would learn is not looked at here."""
    project = open_project(sampled)
    train = training_examples(project)
    monkeypatch.setattr(scoring.Scorer, "judge", lambda self, folder, records: list(records))
    before = judged_samples(project, train, Silent(), "copy-paste")
    gone = before[0].record.source_ids[0]
    rest = [example for example in train if example.id != gone]
    after = judged_samples(project, rest, Silent(), "copy-paste")
    kept = [s.record.id for s in before if gone not in s.record.source_ids]
    assert [s.record.id for s in after] == kept and len(kept) < len(before)


def test_samples_of_earlier_settings_are_not_counted_with_those_of_today(fresh):
    config = yaml.safe_load((fresh / "augment.yaml").read_text())
    config["masks"] = {"most_scale": 1.1}
    (fresh / "augment.yaml").write_text(yaml.safe_dump(config))
    run("sample", "-n", "5", "--generator", "copy-paste", "--project", fresh)
    assert report(fresh)["generators"]["copy-paste"] == 5


def test_a_rule_that_is_off_removes_nothing(fresh):
    config = yaml.safe_load((fresh / "augment.yaml").read_text())
    config["filters"]["quality"] = {"realism": {"enabled": False}}
    (fresh / "augment.yaml").write_text(yaml.safe_dump(config))
    row = report(fresh)["rules"]["realism"]
    assert (row["enabled"], row["rejected"]) == (False, 0)
    assert "off" in run("filters", "report", "--project", fresh)


def records(folder, generator="copy-paste"):
    lines = (folder / "pool" / generator / "manifest.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_too_few_decisions_change_nothing(fresh):
    run("decisions", "add", "reject", records(fresh)[0]["id"], "--project", fresh)
    before = (fresh / "augment.yaml").read_bytes()
    output = run("filters", "fit", "--apply", "--project", fresh)
    assert "Too few decisions to learn from: 1 rejected and 0 accepted" in output
    assert (fresh / "augment.yaml").read_bytes() == before


def test_a_fit_that_helps_is_written_and_the_build_obeys(fresh):
    here = ("--project", fresh)
    run("sample", "-n", "25", "--generator", "copy-paste", *here)
    made = records(fresh)
    middle = float(np.median([r["scores"]["contrast"] for r in made]))
    append_decisions(
        fresh,
        [
            Decision(
                sample_id=r["id"],
                action="reject" if r["scores"]["contrast"] < middle else "accept",
                who="ann",
                time=now(),
            )
            for r in made
        ],
    )
    off = {
        name: {"enabled": False} for name in ("class_agreement", "realism", "memorisation", "seam")
    }
    (fresh / "augment.yaml").write_text(
        "# mine\n"
        + (fresh / "augment.yaml").read_text().split("filters:")[0]
        + "# strict enough?\n"
        + yaml.safe_dump({"filters": {"quality": off}})
    )
    before = (fresh / "augment.yaml").read_text()
    assert "augment filters fit --apply" in run("filters", "fit", *here)
    assert (fresh / "augment.yaml").read_text() == before
    assert "Written into augment.yaml" in run("filters", "fit", "--apply", *here)
    after = (fresh / "augment.yaml").read_text()
    assert after.startswith("# mine\n")
    assert "# strict enough?\n" in after
    fitted = yaml.safe_load(after)["filters"]["mask"]["least_contrast"]
    assert fitted == pytest.approx(middle, rel=0.1)
    row = report(fresh, "--generator", "copy-paste")["rules"]["nothing-appeared"]
    assert row["rejected_by_hand"] == row["rejected"] > 20
    assert row["accepted_by_hand"] == 0


def test_the_old_name_of_the_section_is_answered_with_the_new_one(fresh):
    with (fresh / "augment.yaml").open("a") as stream:
        stream.write("rules: {least_fill: 0.5}\n")
    code, output = augment("filters", "report", "--project", fresh)
    assert code == EXIT_PROJECT
    assert "`rules` is now `filters.mask`" in output


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_a_sheet_shows_what_was_asked_for(fresh, tmp_path, suffix):
    here = ("--project", fresh)
    gone = next(r for r in records(fresh) if r["class_name"] == "stain")["id"]
    run("decisions", "add", "reject", gone, "--reason", "too <large>", *here)
    to = tmp_path / f"s{suffix}"
    code, output = augment(
        "sheet",
        "--to",
        to,
        "--class",
        "stain",
        "--generator",
        "copy-paste",
        "-n",
        "3",
        *here,
        "--json",
    )
    assert code == 0, output
    found = json.loads(output[output.index("{") :])
    assert sum(found["samples"].values()) == 5
    assert found["shown"]["rejected"] == min(3, found["samples"]["rejected"]) > 0
    if suffix == ".html":
        page = to.read_text()
        assert gone in page
        assert "too &lt;large&gt;" in page
        assert "scratch" not in page
    else:
        assert np.asarray(Image.open(to)).std() > 10


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_a_sheet_replaces_sheets_alone(fresh, tmp_path, suffix):
    ours, theirs = tmp_path / f"ours{suffix}", tmp_path / f"theirs{suffix}"
    for _ in range(2):
        code, output = augment("sheet", "--to", ours, "-n", "1", "--project", fresh)
        assert code == 0, output
    if suffix == ".png":
        Image.new("RGB", (9, 7)).save(theirs)
    else:
        theirs.write_text("<html><p>my notes about augment sheet</p></html>")
    before = theirs.read_bytes()
    code, output = augment("sheet", "--to", theirs, "--project", fresh)
    assert code == EXIT_PROJECT
    assert f"{theirs} exists and is no sheet that augment wrote; move it away" in output
    assert theirs.read_bytes() == before


def test_a_sheet_that_cannot_be_made_says_why(imported, fresh, tmp_path):
    for arguments, ends, sentence in (
        (("--to", tmp_path / "s.pdf"), EXIT_USAGE, "A sheet is a .png or a .html file"),
        (("--class", "dent"), EXIT_PROJECT, "There is no class 'dent'"),
        (("--generator", "compact"), EXIT_PROJECT, "There is no pool of 'compact'"),
        (("--generator", "classical"), EXIT_PROJECT, "which are not judged"),
    ):
        code, output = augment("sheet", *arguments, "--project", fresh)
        assert code == ends
        assert sentence in output
    code, output = augment("filters", "report", "--project", imported)
    assert code == EXIT_PROJECT
    assert "augment build --ratio 0.5" in output
