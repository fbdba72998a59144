"""Pretrained weights: found without a network, whole or refused, converted, fetched."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from helpers import augment, tree_hashes
from hub import into_cache, local_hub
from safetensors.torch import load_file
from tiny import tiny_dit, tiny_stable_diffusion

from generator.errors import WeightsError
from generator.files import sha256_of_file
from generator.weights import KNOWN, convert, fetch, find_weights, weights_hash

NAME = "stable-diffusion-v1-5/stable-diffusion-v1-5"
PARTS = ("unet", "vae", "scheduler")
UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A whole pipeline; not to be changed."""
    return tiny_stable_diffusion(tmp_path_factory.mktemp("weights") / "pipeline")


@pytest.fixture
def copy(pipeline, tmp_path):
    """A pipeline of one's own."""
    return Path(shutil.copytree(pipeline, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Caches of the hub's client and of the hashes, both empty."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to connect, or to look up a name, fails the test."""

    def refuse(*arguments, **_):
        raise AssertionError(f"the network was tried: {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def pickled(folder: Path, tensors: str, pickle: str) -> Path:
    """Put a pickle in the place of a safetensors file, as older repositories have it."""
    path = folder / Path(tensors).with_name(pickle)
    torch.save(load_file(folder / tensors), path)
    (folder / tensors).unlink()
    return path


class Runs:
    """Pickled, it makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_local_folder_is_found_by_any_way_to_write_it(pipeline, monkeypatch, no_network):
    monkeypatch.setenv("HOME", str(pipeline.parent))
    monkeypatch.chdir(pipeline.parent)
    for name in (str(pipeline), "pipeline", "./pipeline", "~/pipeline"):
        assert find_weights(name, PARTS) == pipeline.resolve()


def test_a_hub_id_is_found_in_the_cache_without_a_network(pipeline, cache, no_network):
    snapshot = into_cache(pipeline, cache, NAME)
    assert find_weights(NAME, (*PARTS, "text_encoder", "tokenizer")) == snapshot
    assert fetch(NAME, PARTS) == snapshot


def test_the_cache_follows_hf_home(pipeline, tmp_path):
    snapshot = into_cache(pipeline, tmp_path / "home" / "hub", NAME)
    code = f"from generator.weights import find_weights as f; print(f({NAME!r}, {PARTS!r}))"
    environment = os.environ | {"HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(snapshot)


def test_missing_weights_are_one_sentence_with_two_ways(no_network):
    with pytest.raises(WeightsError) as caught:
        find_weights(NAME, PARTS, recipe="sd15-class-lora")
    assert str(caught.value) == (
        f"The weights {NAME} are not on disk (about 3.8 GB, CreativeML OpenRAIL-M); bring them "
        "where there is a network with: augment weights fetch sd15-class-lora, or name a folder "
        "that holds them: augment train RECIPE --weights FOLDER"
    )


def test_a_folder_that_is_not_there_is_no_hub_id(tmp_path, no_network):
    with pytest.raises(WeightsError, match=r"folder of weights .*nowhere does not exist; .*fetch"):
        find_weights(str(tmp_path / "nowhere"), PARTS)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("unet/config.json", "has no unet/config.json"),
        (UNET, f"has no {UNET}"),
        ("scheduler/scheduler_config.json", "has no scheduler/scheduler_config.json"),
        ("tokenizer/merges.txt", "has no tokenizer/merges.txt"),
        ("tokenizer/tokenizer_config.json", "has no tokenizer/tokenizer_config.json"),
    ],
)
def test_each_missing_file_is_named(copy, gone, said):
    (copy / gone).unlink()
    with pytest.raises(WeightsError, match=f"{said}.*augment weights fetch.*--weights FOLDER"):
        find_weights(str(copy), (*PARTS, "tokenizer"))
    assert find_weights(str(copy), ("vae",)) == copy.resolve()


def test_the_half_precision_file_is_not_taken_for_the_full_one(copy):
    (copy / UNET).rename(copy / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    with pytest.raises(WeightsError, match=f"has no {UNET}"):
        find_weights(str(copy), PARTS)


def test_a_cut_off_file_is_refused(copy):
    content = (copy / UNET).read_bytes()
    (copy / UNET).write_bytes(content[:-1])
    with pytest.raises(WeightsError, match=r"model.safetensors is cut off or no safetensors"):
        find_weights(str(copy), PARTS)
    (copy / UNET).write_bytes(b"")
    with pytest.raises(WeightsError, match="is cut off"):
        find_weights(str(copy), PARTS)


def test_a_git_lfs_pointer_is_called_by_its_name(copy):
    (copy / UNET).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(WeightsError, match="is git-lfs's pointer to the weights"):
        find_weights(str(copy), PARTS)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt"])
def test_a_pickle_is_refused_then_converted_then_found(copy, suffix):
    before = load_file(copy / UNET)
    pickle = pickled(copy, UNET, f"diffusion_pytorch_model{suffix}")
    with pytest.raises(WeightsError) as caught:
        find_weights(str(copy), PARTS)
    assert str(pickle) in str(caught.value)
    assert str(caught.value).endswith(f"augment weights convert {copy.resolve()}")
    (made,) = convert(copy)
    assert (made.source, made.target) == (pickle, copy / UNET)
    assert made.size == (copy / UNET).stat().st_size
    assert pickle.is_file()
    after = load_file(copy / UNET)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert find_weights(str(copy), PARTS) == copy.resolve()
    assert convert(copy) == []


def test_plain_diffusers_loads_what_was_converted(copy):
    prompt = {"prompt": "a pit", "num_inference_steps": 2, "height": 64, "width": 64}

    def paint():
        loaded = StableDiffusionPipeline.from_pretrained(copy, use_safetensors=True)
        noise = torch.Generator().manual_seed(1)
        return loaded(**prompt, generator=noise, output_type="np").images

    before = paint()
    pickled(copy, UNET, "diffusion_pytorch_model.bin")
    pickled(copy, TEXT, "pytorch_model.bin")
    assert [made.target for made in convert(copy)] == [copy / TEXT, copy / UNET]
    assert (paint() == before).all()


def test_shared_and_turned_tensors_and_a_state_dict_inside_are_converted(copy):
    (copy / UNET).unlink()
    whole = torch.arange(6.0).reshape(2, 3)
    whole[0, 0] = float("nan")
    tensors = {"a": whole, "b": whole.t(), "c": whole[1], "d": torch.tensor(True)}
    torch.save({"state_dict": tensors, "epoch": 3}, copy / "unet/diffusion_pytorch_model.bin")
    convert(copy, ["unet"])
    back = load_file(copy / UNET)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(back[name].nan_to_num(-1), tensor.nan_to_num(-1))


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(copy, tmp_path):
    (copy / UNET).unlink()
    torch.save({"w": Runs(tmp_path / "ran")}, copy / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"could run code.*augment weights fetch RECIPE"):
        convert(copy)
    assert not (tmp_path / "ran").exists()
    assert not (copy / UNET).exists()
    assert not list((copy / "unet").glob("*.tmp*"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs's pointer"),
        (b"", "can't be read"),
        (None, "is no table of named tensors"),
    ],
)
def test_what_is_no_pickle_of_weights_is_refused(copy, content, said):
    path = pickled(copy, UNET, "diffusion_pytorch_model.bin")
    if content is None:
        torch.save([torch.ones(2)], path)
    else:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        convert(copy)


def test_a_cut_off_pickle_is_refused(copy):
    path = pickled(copy, UNET, "diffusion_pytorch_model.bin")
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(WeightsError, match="can't be read"):
        convert(copy)


def test_among_several_pickles_of_other_names_none_is_guessed(copy):
    pickled(copy, UNET, "one.ckpt")
    (copy / "unet" / "two.pt").write_bytes(b"")
    with pytest.raises(WeightsError, match="holds 2 pickles and none is called diffusion_pyt"):
        convert(copy)


@pytest.mark.parametrize("named", ["file", "folder"])
def test_plain_state_dicts_are_converted_one_or_a_folder_of_them(tmp_path, named):
    state = {"fc.weight": torch.arange(6.0).reshape(2, 3), "seen": torch.tensor(3)}
    pickle = tmp_path / "alexnet-owt.pth"
    torch.save(state, pickle)
    (tmp_path / "notes.txt").write_text("no weights")
    source = pickle if named == "file" else tmp_path
    (made,) = convert(source)
    assert (made.source, made.target) == (pickle, tmp_path / "alexnet-owt.safetensors")
    assert made.size == made.target.stat().st_size and pickle.is_file()
    back = load_file(made.target)
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in state)
    assert convert(source) == []


def test_the_command_takes_one_pickled_state_dict(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "resnet18.pth")
    code, _ = augment("weights", "convert", tmp_path / "resnet18.pth")
    assert code == 0
    assert load_file(tmp_path / "resnet18.safetensors")["w"].tolist() == [1, 1]


def test_a_file_is_converted_only_if_it_is_a_pickle_of_tensors_and_no_other_has_its_name(tmp_path):
    (tmp_path / "a.txt").write_text("no weights")
    with pytest.raises(WeightsError, match=r"a.txt is no pickle .*augment weights convert FOLDER"):
        convert(tmp_path / "a.txt")
    torch.save({"w": Runs(tmp_path / "ran")}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"could run code.*a plain state dict .*convert FILE"):
        convert(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "a.safetensors").exists()
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a.pt and a.pth would both become .*convert .*a.pth"):
        convert(tmp_path)
    assert len(convert(tmp_path / "a.pth")) == 1
    assert convert(tmp_path) == []


def test_a_folder_that_is_no_pipeline_is_not_converted(copy, tmp_path):
    with pytest.raises(WeightsError, match="no pipeline in the hub's layout"):
        convert(copy / "unet")
    with pytest.raises(WeightsError, match="is no folder"):
        convert(tmp_path / "nowhere")


def test_the_hash_is_of_the_bytes_of_the_named_parts(pipeline, copy):
    same = weights_hash(pipeline, PARTS)
    assert weights_hash(copy, PARTS) == same == weights_hash(copy, tuple(reversed(PARTS)))
    (copy / TEXT).write_bytes(b"another")
    (copy / "unet" / "notes.txt").write_text("not weights")
    assert weights_hash(copy, PARTS) == same
    content = bytearray((copy / UNET).read_bytes())
    content[-1] ^= 1
    (copy / UNET).write_bytes(content)
    assert weights_hash(copy, PARTS) != same
    (copy / UNET).unlink()
    with pytest.raises(WeightsError, match="can't be read"):
        weights_hash(copy, PARTS)


def test_large_files_are_hashed_once_until_they_change(copy, tmp_path, monkeypatch):
    large = copy / UNET
    UNet2DConditionModel(
        block_out_channels=(64, 64),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    ).save_pretrained(copy / "unet")
    assert large.stat().st_size > 1_000_000
    first = weights_hash(copy, PARTS)
    kept = json.loads((tmp_path / "cache/augmentor/weights.json").read_text())
    assert list(kept) == [str(large)]
    assert kept[str(large)]["sha256"] == tree_hashes(copy)[str(large)]
    read = []
    monkeypatch.setattr(
        "generator.weights.find.sha256_of_file",
        lambda path: read.append(path) or sha256_of_file(path),
    )
    assert weights_hash(copy, PARTS) == first
    assert large not in read
    stat = large.stat()
    os.utime(large, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert weights_hash(copy, PARTS) == first
    assert large in read


def test_a_hash_needs_no_cache_that_can_be_written(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr("generator.weights.find._SMALL_BYTES", 0)
    first = weights_hash(pipeline, PARTS)
    (tmp_path / "cache" / "augmentor" / "weights.json").write_text("{not json")
    assert weights_hash(pipeline, PARTS) == first
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("a file where the folder belongs")
    assert weights_hash(pipeline, PARTS) == first


def fetched(name: str, parts, into, address: str, home: Path) -> subprocess.CompletedProcess[str]:
    """`fetch` in a process of its own, whose hub and caches are these."""
    code = (
        "import sys; from pathlib import Path; from generator.weights import fetch\n"
        f"into = {str(into)!r} if {into is not None} else None\n"
        f"print(fetch({name!r}, {parts!r}, Path(into) if into else None, recipe='r',"
        " say=lambda line: print(line, file=sys.stderr)))"
    )
    ours = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    ours["HF_HUB_DISABLE_TELEMETRY"] = "1"
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | ours, capture_output=True, text=True
    )


def test_fetch_brings_what_is_needed_and_continues(copy, tmp_path, monkeypatch):
    home = tmp_path / "home"
    (copy / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not needed")
    with local_hub(NAME, copy) as (address, got):
        done = fetched(NAME, PARTS, None, address, home)
        assert done.returncode == 0, done.stderr
        folder = Path(done.stdout.strip())
        assert sorted(got) == [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "unet/config.json",
            UNET,
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ]
        got.clear()
        (folder / UNET).resolve().write_bytes((copy / UNET).read_bytes()[:-9])
        (folder / "vae" / "config.json").unlink()
        done = fetched(NAME, (*PARTS, "tokenizer"), None, address, home)
        assert done.returncode == 0, done.stderr
        assert "again, since it is cut off" in done.stderr
        tokenizer = [
            f"tokenizer/{n}" for n in ("merges.txt", "tokenizer_config.json", "vocab.json")
        ]
        assert sorted(got) == [*tokenizer, UNET]
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(home / "hub"))
    assert find_weights(NAME, (*PARTS, "tokenizer")) == folder


def test_fetch_brings_a_pickle_where_the_hub_has_nothing_else_and_converts_it(tmp_path):
    name, parts = "facebook/DiT-XL-2-256", ("transformer", "vae", "scheduler")
    source = tiny_dit(tmp_path / "hub-side")
    tensors = "transformer/diffusion_pytorch_model.safetensors"
    before = load_file(source / tensors)
    pickled(source, tensors, "diffusion_pytorch_model.bin")
    into = tmp_path / "to" / "folder"
    with local_hub(name, source) as (address, got):
        done = fetched(name, parts, into, address, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "transformer/diffusion_pytorch_model.bin" in got
    assert find_weights(str(into), parts) == into.resolve() == Path(done.stdout.strip())
    after = load_file(into / tensors)
    assert all(torch.equal(after[k], before[k]) for k in before)


@pytest.mark.parametrize(
    ("asked", "parts", "said"),
    [
        (NAME, ("controlnet",), "on the hub has no controlnet/config.json"),
        ("nobody/nothing", PARTS, "The hub answered 404 when asked for nobody/nothing"),
    ],
)
def test_what_the_hub_does_not_have_is_said(pipeline, tmp_path, asked, parts, said):
    with local_hub(NAME, pipeline) as (address, _):
        done = fetched(asked, parts, None, address, tmp_path / "home")
    assert done.returncode == 1
    assert "WeightsError: " in done.stderr
    assert said in done.stderr


def test_without_a_network_fetch_says_how_to_bring_the_folder(tmp_path):
    done = fetched(NAME, PARTS, None, "http://127.0.0.1:9", tmp_path / "home")
    assert "WeightsError: The hub can't be reached" in done.stderr
    assert "augment weights fetch r" in done.stderr
    assert (
        "copy that folder here, and name it: augment train RECIPE --weights FOLDER" in done.stderr
    )


def test_every_known_name_says_size_and_licence():
    for name, known in KNOWN.items():
        assert name.count("/") == 1
        assert known.licence
        assert known.restricts
        assert known.bytes_of(("vae",)) > 300e6
        assert known.bytes_of(PARTS) == sum(known.part_bytes.get(p, 0) for p in PARTS)
