"""The project's own extractor: the same weights wherever and however often it is trained; and
downloaded ones as torchvision has them."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from generator.errors import TrainingError, WeightsError
from generator.quality import own_features
from generator.quality.features import open_extractor
from generator.quality.own_features import open_own
from generator.quality.windows import assign_folds
from generator.weights import convert


@pytest.fixture(autouse=True)
def three_steps(monkeypatch, tmp_path):
    """Enough to see that training is repeatable; and no weights of this machine's user."""
    monkeypatch.setattr(own_features, "STEPS", 3)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def _weights(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*.safetensors"))}


def test_killed_and_repeated_gives_the_same_weights(examples, classes, tmp_path):
    before = torch.random.get_rng_state()
    first = open_own(examples, classes, tmp_path / "a")
    assert torch.equal(before, torch.random.get_rng_state())
    whole = _weights(tmp_path / "a")
    assert len(whole) == 4 and len(set(whole.values())) == 4
    home = tmp_path / "b" / first.name
    shutil.copytree(tmp_path / "a" / first.name, home)
    (home / "without-2.safetensors").unlink()
    (home / "without-1.safetensors").write_bytes(whole["without-1.safetensors"][:1000])
    steps = []
    again = open_own(
        examples[::-1], classes, tmp_path / "b", on_step=lambda done, total, _: steps.append(done)
    )
    assert _weights(tmp_path / "b") == whole
    assert steps == [7, 8, 9, 10, 11, 12]  # two of the four networks
    assert (again.name, again.fingerprint) == (first.name, first.fingerprint)


def test_a_held_out_image_does_not_change_the_network_without_it(examples, classes, tmp_path):
    full = open_own(examples, classes, tmp_path)
    folds = assign_folds(examples, 0)
    gone = next(e for e in examples if e.label == "pit" and folds[e.id] == 1)
    lender = examples[0]
    looks_like = lender.model_dump(include={"image_path", "width", "height"}) | {
        "sha256": "0" * 64,
        "instances": (lender.instances[0].model_copy(update={"class_name": "pit"}),),
    }
    changed = gone.model_copy(update=looks_like)
    other = open_own([changed if e is gone else e for e in examples], classes, tmp_path)
    assert other.name != full.name
    ours, theirs = _weights(tmp_path / full.name), _weights(tmp_path / other.name)
    assert ours["without-1.safetensors"] == theirs["without-1.safetensors"]
    assert ours["without-0.safetensors"] != theirs["without-0.safetensors"]


def test_features_are_rows_of_length_one_for_pictures_of_any_size(examples, classes, tmp_path):
    extractor = open_extractor(examples, classes, tmp_path)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((30, 70), (64, 64), (200, 9))]
    found = extractor.embed(images, batch_size=2)
    assert found.shape == (3, extractor.dimensions) and found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.array_equal(found, extractor.embed(images, batch_size=2))
    assert extractor.embed([]).shape == (0, extractor.dimensions)
    assert not np.allclose(found, extractor.without(0).embed(images))
    assert extractor.without(0).without(1).embed(images).tobytes() == (
        extractor.without(1).embed(images).tobytes()
    )


def test_without_a_defect_there_is_nothing_to_learn(examples, classes, tmp_path):
    with pytest.raises(TrainingError, match="no defect example"):
        open_own([e for e in examples if e.is_clean], classes, tmp_path)


def test_a_downloaded_network_is_used_as_torchvision_has_it(examples, classes, tmp_path):
    torch.manual_seed(0)
    net = resnet18(weights=None)
    save_file(net.state_dict(), tmp_path / "resnet18-f37072fd.safetensors")
    extractor = open_extractor(examples, classes, tmp_path)
    assert (extractor.name, extractor.dimensions) == ("resnet18-imagenet", 512)
    assert extractor.without(2) is extractor
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    pixels = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    net.fc = torch.nn.Identity()
    with torch.no_grad():
        expected = net.eval()(torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)[None])[0]
    assert np.allclose(extractor.embed([image])[0], expected / expected.norm(), atol=1e-5)


def test_what_the_user_names_is_used_or_refused(examples, classes, tmp_path):
    def refused(weights):
        with pytest.raises(WeightsError) as fault:
            open_extractor(examples, classes, tmp_path / "own", weights=weights)
        return str(fault.value)

    (tmp_path / "empty").mkdir()
    assert "There is no resnet18*.safetensors in" in refused(tmp_path / "empty")
    (tmp_path / "old").mkdir()
    pickled = tmp_path / "old" / "resnet18-f37072fd.pth"
    torch.save({}, pickled)
    for weights in (pickled, pickled.parent):
        assert refused(weights).endswith(f"augment weights convert {pickled}")
    other = tmp_path / "resnet18.safetensors"
    save_file({"weight": torch.zeros(1)}, other)
    assert f"{other} does not hold torchvision's resnet18" in refused(other)
    other.write_bytes(b"nothing")
    assert "does not hold" in refused(other)


def test_a_pickle_is_used_after_the_command_that_its_refusal_names(
    examples, classes, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    pickled = Path("with space") / "resnet18-f37072fd.pth"
    pickled.parent.mkdir()
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), pickled)
    for weights in (pickled, pickled.parent):
        with pytest.raises(WeightsError) as fault:
            open_extractor(examples, classes, tmp_path / "own", weights=weights)
    command = shlex.split(str(fault.value).partition("with: ")[2])
    assert command[:-1] == ["augment", "weights", "convert"]
    convert(Path(command[-1]))
    for weights in (pickled, pickled.parent):
        extractor = open_extractor(examples, classes, tmp_path / "own", weights=weights)
        assert extractor.name == "resnet18-imagenet"


def test_a_pickle_that_torch_left_is_passed_over(examples, classes, tmp_path):
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({}, folder / "resnet18-f37072fd.pth")
    assert open_extractor(examples, classes, tmp_path / "own").name.startswith("own-")
    torch.manual_seed(0)
    save_file(resnet18(weights=None).state_dict(), folder / "resnet18-f37072fd.safetensors")
    assert open_extractor(examples, classes, tmp_path / "own").name == "resnet18-imagenet"
