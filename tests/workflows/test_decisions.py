"""What people decide counts, at once and for good: by command, by tag, from another machine."""

import json
import shutil
from collections import Counter

import pytest
import yaml
from helpers import augment, copy_project

from augmentor.cli.errors import EXIT_DATA, EXIT_DATABASE
from augmentor.decisions import LOG, now, read_decisions
from augmentor.records_io import load_records
from augmentor.workflows import build, deciding, queue
from augmentor.workflows.arms import resolve_arms, write_arms_export
from augmentor.workflows.decisions import APP_TAG, decide, take_over_tags
from augmentor.workflows.more import Worker, _can_be_made
from augmentor.workflows.project import open_project
from augmentor.workflows.queue import Asked
from augmentor.workflows.reporting import Silent
from generator.pool import read_pool

BUILD = ("build", "--ratio", "0.5", "--generator", "copy-paste")


def mixed(folder):
    lines = (folder / "dataset" / "manifest.jsonl").read_text().splitlines()
    return {m["id"]: m for m in map(json.loads, lines) if m["kind"] == "synthetic"}


def pool(folder):
    lines = (folder / "pool" / "copy-paste" / "manifest.jsonl").read_text().splitlines()
    return {record["id"]: record for record in map(json.loads, lines)}


def tag_rejected(sample_id):
    """What a person does with the App's own tag icon."""
    import fiftyone as fo

    sample = fo.load_dataset("decided-mixed").match({"augment_id": sample_id}).first()
    sample.tags.append("rejected")
    sample.save()


def sample_of(sample_id):
    import fiftyone as fo

    dataset = fo.load_dataset("decided-mixed")
    dataset.reload()
    return dataset.match({"augment_id": sample_id}).first()


def run(*arguments):
    code, output = augment(*arguments)
    assert code == 0, output
    return output


@pytest.fixture(scope="module")
def built(imported, tmp_path_factory):
    """Built once; each test works on a copy under the same name in FiftyOne."""
    folder = tmp_path_factory.mktemp("decided") / "project"
    copy_project(imported, folder, "decided")
    run(*BUILD, "--project", folder)
    return folder


@pytest.fixture
def fresh(built, tmp_path):
    """A copy with the built dataset registered anew."""
    import fiftyone as fo

    folder = tmp_path / "project"
    shutil.copytree(built, folder)
    (folder / "dataset" / "build.json").unlink()
    if fo.dataset_exists("decided-mixed"):
        fo.delete_dataset("decided-mixed")
    return folder


def test_rejected_samples_leave_and_the_ratio_is_topped_up_again(fresh):
    before = mixed(fresh)
    gone = sorted(before)[:3]
    here = ("--project", fresh)
    run("decisions", "add", "reject", *gone, "--reason", "off the [part]", *here)
    output = run(*BUILD, *here)
    assert "3 rejected, 0 accepted, 0 relabelled" in output
    after = mixed(fresh)
    assert not set(gone) & set(after)
    assert Counter(m["class"] for m in after.values()) == dict.fromkeys(
        ("pit", "scratch", "crack", "stain", "edge_chip"), 4
    )
    assert "off the [part]" in run("decisions", "list", *here)
    assert "Nothing to do" in run(*BUILD, *here)
    run("decisions", "add", "undo", *gone, *here)
    run(*BUILD, *here)
    assert set(mixed(fresh)) == set(before)


def test_where_one_image_lent_all_that_is_left_more_are_made_and_else_it_is_said(fresh):
    here = ("--project", fresh)
    run("sample", "-n", "12", "--class", "pit", "--generator", "copy-paste", *here)
    pits = {i: r for i, r in pool(fresh).items() if r["class_name"] == "pit"}
    assert len(pits) == 16  # as many as may be tried for four
    lenders = Counter(record["mask_source_id"] for record in pits.values())
    assert sorted(lenders.values()) == [4, 4, 4, 4]
    left = min(lenders)
    run(
        *("decisions", "add", "reject", "--reason", "blurred"),
        *(i for i, record in pits.items() if record["mask_source_id"] != left),
        *here,
    )
    output = " ".join(run(*BUILD, *here).split())
    name = next(e.source_path.name for e in load_records(fresh / "data") if e.id == left)
    assert f"4 of 4 samples of 'pit' by copy-paste come from one real image, {name}, of 4" in output
    notes = json.loads((fresh / "dataset" / "export.json").read_text())["notes"]
    assert any("come from one real image" in note for note in notes)

    config = yaml.safe_load((fresh / "augment.yaml").read_text())
    config["mix"] = {**config.get("mix", {}), "attempts": 10.0}
    (fresh / "augment.yaml").write_text(yaml.safe_dump(config))
    assert "come from one real image" not in run(*BUILD, *here)
    made = [pool(fresh)[i] for i, m in mixed(fresh).items() if m["class"] == "pit"]
    assert len(made) == 4
    assert max(Counter(record["mask_source_id"] for record in made).values()) == 2


def test_a_rejected_classical_copy_is_replaced_by_another(fresh):
    here = ("--project", fresh)
    build = (*BUILD[:-1], "copy-paste=0.5,classical=0.5", *here)
    run(*build)
    before = mixed(fresh)
    made = Counter(m["generator"] for m in before.values())
    assert made == {"copy-paste": 10, "classical": 10}
    gone = sorted(i for i, m in before.items() if m["generator"] == "classical")[:2]
    run("decisions", "add", "reject", *gone, *here)
    run(*build)
    after = mixed(fresh)
    assert set(before) - set(after) == set(gone)
    assert Counter(m["generator"] for m in after.values()) == made


def test_a_renamed_classical_copy_has_one_name_in_every_arm(fresh):
    here = ("--project", fresh)
    build = (*BUILD[:-1], "copy-paste=0.5,classical=0.5", *here)
    run(*build)
    moved = next(
        i for i, m in mixed(fresh).items() if (m["generator"], m["class"]) == ("classical", "pit")
    )
    run("decisions", "add", "relabel", moved, "--class", "stain", *here)
    run(*build)
    project = open_project(fresh)
    arms = resolve_arms(project, ["mixed", "classical"], Silent())
    for arm in arms.values():
        names = {s.record.id: s.record.class_name for s in arm.samples}
        assert names.get(moved, "stain") == "stain"
        assert set(Counter(names.values()).values()) == {4}
    write_arms_export(project, fresh / "export", arms)


def test_an_accepted_sample_is_used_though_a_rule_rejects_it(fresh):
    here = ("--project", fresh)
    config = fresh / "augment.yaml"
    config.write_text(config.read_text() + "filters: {mask: {least_fill: 1.0}}\n")
    liked = sorted(i for i, r in pool(fresh).items() if 0 < r["scores"]["fill"] < 1)[0]
    run("decisions", "add", "accept", liked, *here)
    code, output = augment(*BUILD, *here, "--json")
    assert liked in mixed(fresh), output
    others = [i for i in mixed(fresh) if i != liked]
    assert all(pool(fresh)[i]["scores"]["fill"] == 1 for i in others)
    assert code in (0, 7)


def test_a_relabelled_sample_is_exported_under_its_new_class(fresh):
    here = ("--project", fresh)
    moved = next(i for i, m in mixed(fresh).items() if m["class"] == "pit")
    run("decisions", "add", "relabel", moved, "--class", "stain", *here)
    assert "1 relabelled" in run(*BUILD, *here)
    after = mixed(fresh)
    assert Counter(m["class"] for m in after.values())["pit"] == 4
    assert after[moved]["class"] == "stain", "whoever gives it another class wants it"
    assert pool(fresh)[moved]["class_name"] == "pit"
    run("export", "--format", "folders", *here)
    assert len(list((fresh / "exports" / "folders").rglob(f"stain/*{moved}*"))) == 1
    code, output = augment("decisions", "add", "relabel", moved, "--class", "dent", *here)
    assert code == EXIT_DATA
    assert "'dent', which is no class of this project" in output


def test_a_relabelling_that_was_built_can_be_undone_in_the_app(fresh):
    here = ("--project", fresh)
    moved = next(i for i, m in mixed(fresh).items() if m["class"] == "pit")
    run("decisions", "add", "relabel", moved, "--class", "stain", *here)
    run(*BUILD, *here)
    sample = sample_of(moved)
    assert (sample.defect.label, sample.review.made_as) == ("stain", "pit")
    deciding.decide("decided-mixed", [sample.id], "undo")
    sample = sample_of(moved)
    assert (sample.defect.label, sample.review) == ("pit", None)


def test_what_people_decide_while_a_build_runs_stays(fresh, monkeypatch):
    here = ("--project", fresh)
    run(*BUILD, *here)
    by_command, by_tag, before, *_ = sorted(mixed(fresh))
    write = build._write

    def meanwhile(project, *rest):
        decide(project, "reject", [by_command])
        tag_rejected(by_tag)
        return write(project, *rest)

    run("decisions", "add", "reject", before, *here)
    with monkeypatch.context() as patched:
        patched.setattr(build, "_write", meanwhile)
        run(*BUILD, *here)
    three = {by_command, by_tag, before}
    for sample_id in three:
        assert "rejected" in sample_of(sample_id).tags
        assert sample_of(sample_id).review.verdict == "rejected"
    assert {d.sample_id for d in read_decisions(fresh)} == three
    run(*BUILD, *here)
    assert not three & set(mixed(fresh))


def test_an_image_that_was_lost_is_made_again(fresh):
    here = ("--project", fresh)
    before = mixed(fresh)
    lost = sorted(before)[0]
    image = fresh / "pool" / "copy-paste" / "images" / f"{lost}.png"
    pixels = image.read_bytes()
    image.unlink()
    output = " ".join(run(*BUILD, *here).split())
    assert "The image or mask of 1 sample in" in output
    assert image.read_bytes() == pixels
    assert set(mixed(fresh)) == set(before)


def test_more_is_made_only_of_what_it_would_be_like(fresh):
    project = open_project(fresh)
    scratch, pit = (
        next(i for i, m in mixed(fresh).items() if m["class"] == name)
        for name in ("scratch", "pit")
    )
    decide(project, "relabel", [scratch], class_name="crack")
    records = {r.id: r for r in read_pool(project.pool("copy-paste")) if r.id in (scratch, pit)}
    records["whole"] = records[pit].model_copy(update={"id": "whole", "generator": "classical"})
    fit, faults = _can_be_made(project, records)
    assert set(fit) == {pit}
    assert set(faults) == {
        "Sample whole is a copy of a whole real image: no defect in it was made.",
        f"Sample {scratch} was made as scratch, and so would more of it be; for more crack choose "
        "a sample that was made as that.",
    }
    run(*BUILD, "--project", fresh)
    more = Asked(id="1", kind="more", sample_ids=(pit, scratch), number=1, who="me", time=now())
    queue.append(fresh, [more])
    made, faults = Worker(fresh, "decided-mixed", Silent(), lambda: None)._do(more)
    assert (len(made), len(faults)) == (1, 1), "the one that can be made is made all the same"
    assert sample_of(made[0]).synthetic.origin == pit


def test_the_apps_own_tag_is_taken_over_into_the_log(fresh):
    import fiftyone as fo

    here = ("--project", fresh)
    run(*BUILD, *here)
    gone = sorted(mixed(fresh))[0]
    tag_rejected(gone)
    assert "1 rejected" in run(*BUILD, *here)
    assert gone not in mixed(fresh)
    (decision,) = read_decisions(fresh)
    assert (decision.sample_id, decision.action, decision.who) == (gone, "reject", APP_TAG)
    # what the log mirrored to the tag is no new decision
    run(*BUILD, *here)
    assert len(read_decisions(fresh)) == 1
    # and a database that is lost takes nothing back
    fo.delete_dataset("decided-mixed")
    run(*BUILD, *here)
    assert len(read_decisions(fresh)) == 1
    assert gone not in mixed(fresh)


def test_a_tag_that_was_taken_over_and_taken_back_stays_away(fresh, tmp_path):

    here = ("--project", fresh)
    run(*BUILD, *here)
    gone = sorted(mixed(fresh))[0]
    tag_rejected(gone)
    run("decisions", "export", tmp_path / "d.jsonl", *here)
    run("decisions", "add", "undo", gone, *here)
    run(*BUILD, *here)
    assert gone in mixed(fresh)
    assert [d.action for d in read_decisions(fresh)] == ["reject", "undo"]


def test_a_decision_outranks_the_tag_that_was_set_before_it(fresh):

    here = ("--project", fresh)
    run(*BUILD, *here)
    kept = sorted(mixed(fresh))[0]
    tag_rejected(kept)
    run("decisions", "add", "accept", kept, *here)
    run(*BUILD, *here)
    assert kept in mixed(fresh)
    assert [d.action for d in read_decisions(fresh)] == ["reject", "accept"]


def test_taking_the_tag_away_takes_the_decision_back(fresh):
    import fiftyone as fo

    here = ("--project", fresh)
    gone = sorted(mixed(fresh))[0]
    run("decisions", "add", "reject", gone, *here)
    run(*BUILD, *here)
    sample = fo.load_dataset("decided-mixed").match({"augment_id": gone}).first()
    assert "rejected" in sample.tags
    sample.tags.remove("rejected")
    sample.save()
    run(*BUILD, *here)
    assert gone in mixed(fresh)
    assert [d.action for d in read_decisions(fresh)] == ["reject", "undo"]


def test_decisions_travel_to_another_machine(fresh, built, tmp_path):
    here, there = ("--project", fresh), tmp_path / "there"
    copy_project(built, there, "there")
    gone = sorted(mixed(fresh))[:2]
    code, output = augment("decisions", "export", tmp_path / "d.jsonl", *here)
    assert code == EXIT_DATA
    assert "Nobody decided anything" in output
    run("decisions", "add", "reject", *gone, *here)
    run("decisions", "export", tmp_path / "d.jsonl", *here)
    line = json.loads((tmp_path / "d.jsonl").read_text().splitlines()[0])
    with (tmp_path / "d.jsonl").open("a") as stream:
        stream.write(json.dumps(line | {"sample_id": "0" * 16}) + "\n")
    other = ("--project", there)
    output = run("decisions", "import", tmp_path / "d.jsonl", *other)
    assert "3 decisions are new, 0 were known" in output
    assert "1 of the samples are in no pool here" in output
    assert "0 decisions are new, 3 were known" in run(
        "decisions", "import", tmp_path / "d.jsonl", *other
    )
    assert "2 rejected" in run(*BUILD, *other)
    assert not set(gone) & set(mixed(there))


def test_the_copy_of_a_project_leaves_the_dataset_of_its_original_alone(fresh, tmp_path):
    import fiftyone as fo

    here = ("--project", fresh)
    run(*BUILD, *here)
    dataset = fo.load_dataset("decided-mixed")
    info, copy = dict(dataset.info["augmentor"]), shutil.copytree(fresh, tmp_path / "copy")
    sample = dataset.match_tags("synthetic").first()
    sample.tags.append("rejected")
    sample.save()
    for command in (("review",), ("loop", "--runs", "1"), BUILD):
        code, output = augment(*command, "--project", copy)
        assert code == EXIT_DATABASE, output
        assert f"of the project in {fresh}; choose another name" in " ".join(output.split())
    assert take_over_tags(open_project(copy)) == 0
    dataset.reload()
    assert dict(dataset.info["augmentor"]) == info
    assert take_over_tags(open_project(fresh)) == 1


def test_an_export_of_decisions_replaces_nothing_that_would_be_lost(fresh, tmp_path):
    here, file = ("--project", fresh), tmp_path / "d.jsonl"
    run("decisions", "add", "reject", next(iter(pool(fresh))), *here)
    run("decisions", "export", file, *here)
    run("decisions", "export", file, *here)
    line = {"sample_id": "a", "action": "reject", "who": "bo", "time": "2026-11-21T09:00:00Z"}
    for content, words in (
        ("my,table\n", "exists and holds something else than decisions"),
        (json.dumps(line) + "\n", f"import them first: augment decisions import {file}"),
    ):
        file.write_text(content)
        code, output = augment("decisions", "export", file, *here)
        assert code == EXIT_DATA
        assert words in output
        assert file.read_text() == content
    code, output = augment("decisions", "export", tmp_path, *here)
    assert code == EXIT_DATA
    assert "is a folder" in output


def test_bad_files_of_decisions_are_refused_whole(fresh, tmp_path):
    here = ("--project", fresh)
    bad = tmp_path / "bad.jsonl"
    bad.write_text("sample,verdict\n")
    code, output = augment("decisions", "import", bad, *here)
    assert code == EXIT_DATA
    assert "line 1 is no decision" in output
    line = {"sample_id": "a", "action": "relabel", "class_name": "dent", "who": "bo",
            "time": "2026-11-21T09:00:00Z"}  # fmt: skip
    bad.write_text(json.dumps(line) + "\n")
    code, output = augment("decisions", "import", bad, *here)
    assert code == EXIT_DATA
    assert "'dent', which is no class of this project" in output
    assert not (fresh / LOG).exists()
    code, output = augment("decisions", "add", "reject", "feedfacefeedface", *here)
    assert code == EXIT_DATA
    assert "augment sheet" in output
