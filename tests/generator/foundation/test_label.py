"""Which ImageNet class a project's class starts from, by name and by look."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_dit
from torchvision.models import resnet18
from torchvision.models._meta import _IMAGENET_CATEGORIES
from torchvision.transforms.v2 import Normalize, Resize

from generator.conditioning import nearest
from generator.conditioning.conditions import clean_id, null_id
from generator.conditioning.imagenet import (
    imagenet_classes,
    imagenet_index,
    is_synset,
    synset_names,
)
from generator.conditioning.label import Label
from generator.conditioning.nearest import (
    assign,
    look_similarity,
    name_similarity,
    open_classifier,
)
from generator.config import CropSettings, Recipe, load_recipe
from generator.data import CropData
from generator.errors import RecipeError, WeightsError
from generator.sampling import load_painter
from generator.training import checkpoint_key, train
from generator.weights import convert

CLASSES = ("pit", "scratch")


class Table:
    """What a conditioning asks of a backbone: rows of a table, here 1001 of 2 blocks x 3."""

    null_label = 1000
    table = torch.arange(1001 * 6).float().view(1001, 2, 3)

    def label_rows(self, labels):
        return self.table[list(labels)].clone()


def label(classes=CLASSES, **settings) -> Label:
    return Label(Label.Settings(**settings), classes, 0.3, Table())


def test_the_classes_are_numbered_as_torchvision_numbers_them():
    classes = imagenet_classes()
    assert [c.index for c in classes] == list(range(1000))
    # torchvision tells apart the four that WordNet gives another's name, and rewrites a few.
    same = sum(_IMAGENET_CATEGORIES[c.index].lower() in map(str.lower, c.names) for c in classes)
    assert same > 970
    assert classes[0].synset == "n01440764" and classes[0].names == ("tench", "Tinca tinca")


@pytest.mark.parametrize("name", [0, "tench", "Tinca Tinca", "n01440764", "tench, Tinca tinca"])
def test_a_class_is_found_by_number_name_or_synset(name):
    assert imagenet_index(name) == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (1000, "numbered from 0 to 999"),
        (-1, "numbered from 0 to 999"),
        ("crane", "classes 134, 517 are all called 'crane'; give a number"),
        ("blowr", "no class 'blowr', did you mean .*'blower'"),
        ("n00004475", "no class 'n00004475'"),
    ],
)
def test_what_is_no_class_is_refused_with_the_way_out(name, reason):
    with pytest.raises(RecipeError, match=reason):
        imagenet_index(name)


def test_synsets_beyond_the_thousand_have_words_too():
    assert is_synset("n00004475") and not is_synset("n0000447") and not is_synset("pit")
    assert synset_names("n00004475") == ("organism", "being")
    assert synset_names("n99999999") == ()


def test_names_are_matched_by_words_and_letters():
    classes = ["n01443537", "MT_Nail", "screw_01", "bottlecap", "weighing scale"]
    found = [imagenet_classes()[k].names for k in name_similarity(classes).argmax(axis=1)]
    assert [names[0] for names in found] == ["goldfish", "nail", "screw", "bottlecap", "scale"]
    # One of two words, and 2 x 8 of 8 + 12 letters.
    found = name_similarity(["electric"])[0, imagenet_index("electric fan")]
    assert found == pytest.approx(1 / 2 + 2 * 8 / (8 + 12))


def test_no_two_classes_start_from_one_and_the_sum_is_the_largest():
    rng = np.random.default_rng(1)
    similarity = np.zeros((3, 1000))
    similarity[:, :5] = rng.random((3, 5))
    similarity[1] = similarity[0]
    found = assign(similarity)
    best = max(
        sum(similarity[row, k] for row, k in enumerate(chosen))
        for chosen in itertools.permutations(range(5), 3)
    )
    assert len(set(found)) == 3
    assert sum(similarity[row, k] for row, k in enumerate(found)) == pytest.approx(best)
    first = int(similarity[2].argmax())
    settled = assign(similarity, {0: first})
    assert settled[0] == first and settled[2] != first and len(set(settled)) == 3


def test_one_class_of_imagenet_for_two_is_refused():
    with pytest.raises(RecipeError, match="a class of ImageNet of its own"):
        label(labels={"pit": "tench", "scratch": 0}).begin(None, 0)


def test_rows_are_copies_of_the_table_and_the_clean_surface_has_the_null_row():
    classes = ("n01440764", "n01443537", "scratch")
    conditioning = label(classes, labels={"scratch": 517})
    assert torch.equal(conditioning.rows[:3].detach(), Table.table[[1000] * 3])
    notes = conditioning.begin(None, 0)
    assert notes[2] == "Class scratch starts from ImageNet's 'crane' (517)."
    named = {"n01440764": 0, "n01443537": 1, "scratch": 517}
    assert conditioning.describe() == {"imagenet": named}
    images, masks = torch.zeros(4, 3, 16, 16), torch.zeros(4, 1, 16, 16)
    ids = torch.tensor([2, 0, clean_id(classes), null_id(classes)])
    given = conditioning.embed(conditioning(images, masks, ids))
    assert torch.equal(given.tokens.detach(), Table.table[[517, 0, 1000, 1000]])
    given.tokens.sum().backward()
    assert conditioning.rows.grad[:, 0, 0].tolist() == [1, 0, 1, 2]
    with torch.no_grad():
        conditioning.rows += 1
    assert Table.table[517, 0, 0] == 517 * 6


def test_what_is_painted_is_the_mask_and_its_margin_in_pixels_as_they_are():
    images = torch.full((1, 3, 16, 16), 0.7)
    masks = torch.zeros(1, 1, 16, 16)
    masks[..., 6, 8] = 0.2
    given = label(margin_px=2)(images, masks, torch.tensor([0]))
    assert given.hidden.sum() == 25 and given.hidden[0, 0, 4:9, 6:11].all()
    assert (given.spread, float(given.level.abs().max())) == (1.0, 0.0)
    assert torch.equal(given.known, images * (1 - given.hidden))


@pytest.fixture
def classifier(tmp_path, monkeypatch):
    """A ResNet-18 with random weights, where torch keeps what it downloads."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = resnet18(weights=None).eval()
        # Random weights alone say nearly the same of every picture.
        network.fc.weight.data *= 20
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(nearest, "CROPS", 2)
    file = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.safetensors"
    file.parent.mkdir(parents=True)
    save_file(network.state_dict(), file)
    return file, network


def test_looks_are_the_classifiers_mean_probability_over_training_crops(classifier, tiny_examples):
    _, network = classifier
    data = CropData(tiny_examples(), CLASSES, CropSettings(size_px=32, least_px=32))
    found = look_similarity(data, None, 4)
    resize = Resize((224, 224), antialias=True)
    normalise = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for row in range(2):
        images = data.class_crops(row, 2, 4).images.repeat(1, 3, 1, 1)
        with torch.no_grad():
            expected = network(normalise(resize((images + 1) / 2))).softmax(1).mean(0)
        np.testing.assert_allclose(found[row], expected, atol=1e-5)
    assert found.shape == (2, 1000)
    assert found.sum(axis=1) == pytest.approx(1)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def on_tiny(folder, **conditioning) -> Recipe:
    content = load_recipe("dit-diffit").model_dump(mode="json")
    content["backbone"]["weights"] = str(folder)
    content["conditioning"] |= conditioning
    content["precision"] = "fp32"
    content["crops"] |= {"size_px": 64, "least_px": 32}
    content["training"] |= {"steps": 1, "batch_size": 2, "accumulation": 1, "variants": 0}
    content["sampling"] |= {"steps": 1}
    return Recipe.model_validate(content)


@pytest.mark.slow
def test_a_checkpoint_that_started_from_looks_needs_no_classifier(
    classifier, tmp_path, tiny_examples
):
    file, _ = classifier
    recipe = on_tiny(tiny_dit(tmp_path / "dit"), start="image")
    examples = tiny_examples(grey=False)
    notes: list[str] = []
    train(recipe, examples, CLASSES, tmp_path / "c", seed=4, on_note=notes.append)
    data = CropData(examples, CLASSES, recipe.crops, 3)
    chosen = assign(look_similarity(data, file, 4))
    assert [note.rpartition("(")[2] for note in notes] == [f"{k})." for k in chosen]
    file.unlink()
    parts = load_painter(tmp_path / "c").parts
    start = parts.backbone.label_rows([*chosen, 1000])
    torch.testing.assert_close(parts.conditioning.rows.cpu(), start, atol=1e-4, rtol=0)


def test_the_key_of_a_checkpoint_holds_what_the_classifier_is_and_not_where(
    classifier, tmp_path, tiny_examples
):
    file, network = classifier
    base, examples = tiny_dit(tmp_path / "dit"), tiny_examples(grey=False)

    def key(**conditioning):
        return checkpoint_key(on_tiny(base, **conditioning), examples, CLASSES, 0)

    found = key(start="image")
    moved = file.rename(tmp_path / "resnet18.safetensors")
    assert key(start="image", classifier=str(moved)) == found
    network.fc.weight.data += 1
    save_file(network.state_dict(), file)
    assert key(start="image") != found
    assert key(start="image", classifier=str(moved)) == found
    file.unlink()
    with pytest.raises(WeightsError, match="conditioning"):
        key(start="image")
    key(start="name")


def test_a_classifier_that_is_not_there_is_no_reason_to_guess(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"resnet18\*\.safetensors .* set conditioning.start"):
        look_similarity(None, None, 0)
    pickled = tmp_path / "resnet18.pth"
    pickled.write_bytes(b"x")
    with pytest.raises(WeightsError, match=f"is a pickle.*augment weights convert {pickled}"):
        look_similarity(None, pickled, 0)
    torch.save(resnet18(weights=None).state_dict(), pickled)
    convert(pickled)
    assert open_classifier(pickled) is not None
    other = tmp_path / "resnet18.safetensors"
    save_file({"fc.weight": torch.zeros(2, 2)}, other)
    with pytest.raises(WeightsError, match="does not hold torchvision's resnet18"):
        look_similarity(None, other, 0)
