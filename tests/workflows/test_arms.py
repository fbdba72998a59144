"""Arms by name: what each trains on, and that every one is compared on the same terms."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from helpers import augment, copy_project

from augmentor.cli.errors import EXIT_USAGE
from augmentor.errors import LeakError, ProjectError
from augmentor.records_io import load_records
from augmentor.workflows.arms import parse_arm, resolve_arms, write_arms_export
from augmentor.workflows.generators import open_maker
from augmentor.workflows.project import open_project
from augmentor.workflows.reporting import Silent
from generator.errors import RecipeError

pytestmark = pytest.mark.timeout(900)  # the first test waits for a build of all arms

SHOTS, CLASSES = 4, 5  # of the project that conftest.py imports


@pytest.fixture(scope="module")
def built(imported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("arms") / "project"
    copy_project(imported, folder, "arms")
    code, output = augment(
        *("build", "--ratio", "0.5", "--generator", "copy-paste=0.5,poisson-paste=0.5"),
        *("--project", folder),
    )
    assert code == 0, output
    return open_project(folder)


NAMES = (
    *("real", "real:2", "real:3", "real:9", "full", "mixed", "synthetic", "classical"),
    *("copy-paste", "mixed@0.2", "mixed@0.6", "mixed@1", "classical@0.2", "copy-paste@0.2"),
    *("perlin+poisson-paste@0.5", "classical+poisson-paste@0.5"),
    *("plain-paste", "plain-paste@0.2"),
)


@pytest.fixture(scope="module")
def arms(built):
    return resolve_arms(built, NAMES, Silent())


def defects_of(built, arm):
    """Real and synthetic defect images of an arm, by class."""
    records = {r.id: r for r in load_records(built.data)}
    real = Counter(records[i].label for i in arm.real if not records[i].is_clean)
    return real, Counter(s.record.class_name for s in arm.samples)


@pytest.mark.parametrize(
    ("name", "real", "synthetic"),
    [
        ("real", SHOTS, 0),
        ("real:2", 2, 0),
        ("mixed", SHOTS, SHOTS),
        ("synthetic", 0, SHOTS),
        ("classical", SHOTS, SHOTS),
        ("copy-paste", SHOTS, SHOTS),
        ("mixed@0.2", SHOTS, SHOTS // 4),
        ("mixed@0.6", SHOTS, SHOTS * 3 // 2),
        ("mixed@1", 0, SHOTS),
        ("classical@0.2", SHOTS, SHOTS // 4),
        ("copy-paste@0.2", SHOTS, SHOTS // 4),
        ("plain-paste", SHOTS, SHOTS),
        ("plain-paste@0.2", SHOTS, SHOTS // 4),
        ("perlin+poisson-paste@0.5", SHOTS, SHOTS),
        ("classical+poisson-paste@0.5", SHOTS, SHOTS),
    ],
)
def test_an_arm_has_the_numbers_that_its_name_says(built, arms, name, real, synthetic):
    counted = defects_of(built, arms[name])
    assert set(counted[0].values()) == ({real} if real else set())
    assert set(counted[1].values()) == ({synthetic} if synthetic else set())
    assert len(counted[0]) in (0, CLASSES)
    assert len(counted[1]) in (0, CLASSES)


def test_classical_copies_are_a_generator_in_company(built, arms):
    made = Counter(s.record.generator for s in arms["classical+poisson-paste@0.5"].samples)
    assert made == {"classical": SHOTS * CLASSES // 2, "poisson-paste": SHOTS * CLASSES // 2}


def test_classical_copies_are_not_made_on_request(built):
    with pytest.raises(RecipeError, match="have it in a mix: augment build --generator copy-paste"):
        open_maker(built, "classical", Silent())


def test_every_arm_has_the_same_clean_images(built, arms):
    clean = {r.id for r in load_records(built.data) if r.is_clean and r.split == "train"}
    every = {r.id for r in load_records(built.data) if r.is_clean}
    assert clean
    assert {name: arm.real & every == clean for name, arm in arms.items()} == dict.fromkeys(
        NAMES, True
    )


@pytest.fixture(scope="module")
def few(photos, tmp_path_factory):
    """A project of two shots, with two images a class set aside."""
    folder = tmp_path_factory.mktemp("few") / "project"
    code, output = augment("import", photos, "--name", "few", "--shots", "2", "--project", folder)
    assert code == 0, output
    return open_project(folder)


def test_fewer_shots_are_a_part_of_more(few):
    arms = resolve_arms(few, ["real:1", "real", "real:2", "real:3", "real:9", "full"], Silent())
    assert arms["real:1"].real < arms["real"].real == arms["real:2"].real
    # more shots than --shots kept come from what was set aside
    assert arms["real"].real < arms["real:3"].real < arms["full"].real == arms["real:9"].real
    assert {len(arms[name].notes) for name in ("real:1", "real:3", "full")} == {0}
    assert arms["real:9"].notes[0] == "The arm real:9 has 4 images of 'crack': all."


def test_shots_are_those_that_an_import_with_fewer_would_keep(built, few):
    kept = {r.id for r in load_records(few.data) if r.split == "train"}
    assert resolve_arms(built, ["real:2"], Silent())["real:2"].real == kept


def test_without_full_the_reserve_stays_out(few, tmp_path):
    aside = {r.id for r in load_records(few.data) if r.split == "reserve"}
    assert len(aside) == 2 * CLASSES
    for name, expected in (("real", set()), ("full", aside)):
        folder = write_arms_export(few, tmp_path / name, resolve_arms(few, [name], Silent()))
        lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
        assert aside & {line["id"] for line in lines} == expected


def test_generators_have_equal_shares_and_the_lower_ratio_is_a_part(arms):
    by_generator = Counter(s.record.generator for s in arms["perlin+poisson-paste@0.5"].samples)
    assert by_generator == {"perlin": SHOTS * CLASSES / 2, "poisson-paste": SHOTS * CLASSES / 2}
    mixed = Counter(s.record.generator for s in arms["mixed@0.6"].samples)
    assert mixed == {"copy-paste": 15, "poisson-paste": 15}
    ids = {name: {s.record.id for s in arm.samples} for name, arm in arms.items()}
    assert ids["mixed@0.2"] < ids["mixed"] < ids["mixed@0.6"]
    assert ids["synthetic"] == ids["mixed"]


def test_the_export_says_which_arms_train_on_an_image(built, arms, tmp_path):
    folder = write_arms_export(built, tmp_path / "export", arms, notes=["Said first."])
    header = json.loads((folder / "export.json").read_text())
    assert header["arms"] == list(NAMES)
    assert header["notes"][0] == "Said first."
    assert any("real:9" in note for note in header["notes"])
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    for name, arm in arms.items():
        held = {line["id"] for line in lines if name in line["arms"]}
        assert held == arm.real | {s.record.id for s in arm.samples}
    assert {tuple(line["arms"]) for line in lines if line["split"] != "train"} == {()}


def test_an_arm_with_a_sample_made_of_a_test_image_is_refused(built, arms, tmp_path):
    held_out = next(r for r in load_records(built.data) if r.split == "test")
    first, *rest = arms["mixed@0.2"].samples
    record = first.record.model_copy(update={"source_ids": (held_out.id,)})
    spoilt = type(arms["real"])(arms["real"].real, (first._replace(record=record), *rest))
    with pytest.raises(LeakError, match=held_out.id):
        write_arms_export(built, tmp_path / "export", {"spoilt": spoilt})


def test_a_sample_with_two_classes_is_refused(built, arms, tmp_path):
    first, *rest = arms["mixed@0.2"].samples
    other = next(c for c in built.config.classes if c != first.record.class_name)
    record = first.record.model_copy(update={"class_name": other})
    changed = type(arms["real"])(arms["real"].real, (first._replace(record=record), *rest))
    with pytest.raises(ProjectError, match=f"{record.id} was relabelled after.*augment build"):
        write_arms_export(built, tmp_path / "export", {"mixed": arms["mixed"], "new": changed})


@pytest.mark.parametrize(
    "name",
    [
        *("reel", "real:0", "real:many", "real@0.5", "full@0.5", "mixed@0", "mixed@1.5"),
        *("mixed@half", "mixed+perlin@0.5", "perlin", "perlin+@0.5"),
        *("perlin+perlin@0.5", "compact@4000", "@0.5", "", "mixed@nan"),
    ],
)
def test_a_wrong_name_is_answered_with_the_grammar(name):
    with pytest.raises(ProjectError, match=r"There is no arm .*: an arm is real, .* up to 1\.$"):
        parse_arm(name)


def test_a_kept_checkpoint_is_a_generator_too():
    assert parse_arm("compact@4000+perlin@0.5").parts == ("compact@4000", "perlin")
    assert parse_arm("compact@4000@0.25").ratio == 0.25


def test_an_unknown_generator_is_named_before_anything_is_made(imported):
    with pytest.raises(RecipeError, match="did you mean 'perlin'"):
        resolve_arms(open_project(imported), ["real", "perlim@0.5"], Silent())
    assert not (imported / "pool").exists()


def test_arms_of_the_built_dataset_need_one(imported):
    project = open_project(imported)
    assert resolve_arms(project, ["real", "full"], Silent()).keys() == {"real", "full"}
    with pytest.raises(ProjectError, match="no mixed dataset yet; build it"):
        resolve_arms(project, ["real", "synthetic"], Silent())


def test_the_command_says_what_an_arm_may_be(built):
    code, output = augment("evaluate", "--arms", "real,everything", "--project", built.folder)
    assert code == EXIT_USAGE
    assert "There is no arm 'everything': an arm is real" in output
    for ratios in ("0.3;0.5", "0,3", "0.5,2", "nan"):
        code, output = augment("evaluate", "--ratios", ratios, "--json", "--project", built.folder)
        assert code == EXIT_USAGE
        assert "--ratios 0.3,0.5,0.8" in json.loads(output)["error"]
    code, output = augment("evaluate", "--arms", "mixed", "--project", built.folder)
    assert code == EXIT_USAGE
    assert "The arm mixed alone has nothing to be compared with" in output


def test_the_baseline_pastes_one_defect_as_it_is_whatever_the_project_chooses(built, arms):
    wishes = {
        "background_candidates": 50,
        "own_share": 0.5,
        "together_share": 1,
        "most_severity": 2,
    }
    masks = built.config.masks.model_copy(update=wishes)
    chosen = replace(built, config=built.config.model_copy(update={"masks": masks}))
    names = ("copy-paste", "copy-paste+perlin@0.5")
    found = resolve_arms(chosen, names, Silent())
    ids = {name: {s.record.id for s in arm.samples} for name, arm in found.items()}
    plain = {s.record.generator for s in arms["plain-paste"].samples}
    assert plain == {"plain-paste"}
    assert ids["copy-paste"] == {s.record.id for s in arms["copy-paste"].samples}
    pasted = {s.record.id for s in found[names[1]].samples if s.record.generator == "copy-paste"}
    assert pasted and not pasted & ids["copy-paste"]
