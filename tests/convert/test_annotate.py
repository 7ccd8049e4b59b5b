"""Networks that add columns to a data set, each tiny, random and of a real class: what they add, and that it is added once and alike."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.convert.sources import OPTIONS, WidthsOf, bytes_of, mixed_tars, stored_in
from trainer.data.convert.__main__ import main
from trainer.data.convert.annotate import annotate
from trainer.data.convert.conversion import convert
from trainer.data.convert.executors import Here
from trainer.data.convert.networks import CaptionsOf, ImageLatentsOf, TextStatesOf
from trainer.data.convert.output import ConversionError

TOKENS = 6
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "picture", "of", *"0123456789abcdefgh"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("annotated")
    convert(str(mixed_tars(place / "tars", tars=2, samples=5)), str(place / "data"), OPTIONS)
    return place / "data"


def tokenizer(folder: Path) -> Any:
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return transformers.BertTokenizer(str(folder / "vocab.txt"))


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    folder = tmp_path_factory.mktemp("tower")
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_position_embeddings=16
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer(folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    folder = tmp_path_factory.mktemp("captioner")
    text = {"vocab_size": len(WORDS), "hidden_size": 16, "encoder_hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {
        "intermediate_size": 16,
        "max_position_embeddings": 32,
        "bos_token_id": 2,
        "sep_token_id": 3,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }
    torch.manual_seed(0)
    config = transformers.BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    transformers.BlipProcessor(images, tokenizer(folder)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import diffusers

    folder = tmp_path_factory.mktemp("autoencoder")
    torch.manual_seed(0)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2, "block_out_channels": [8, 8]}
    diffusers.AutoencoderKL(**blocks, latent_channels=4, norm_num_groups=4, sample_size=32).save_pretrained(folder)
    return folder


def test_states_of_captions_are_the_towers_and_everything_else_stays(data: Path, tower: Path, tmp_path: Path):
    from trainer.text import load_text_encoder

    made = annotate(str(data), str(tmp_path / "out"), TextStatesOf(str(tower), TOKENS), batch=3)
    old, new = stored_in(data), stored_in(tmp_path / "out")
    assert list(old) == list(new)
    assert made.columns["caption_latent"] == f"ndarray:float16:{TOKENS},16"
    encoder = load_text_encoder(str(tower), TOKENS, cleaning="light")
    for id, sample in new.items():
        assert {name: sample[name] for name in old[id]} == old[id]
        states, mask = encoder.encode([sample["caption"]])
        np.testing.assert_allclose(sample["caption_latent"], states[0].numpy(), atol=2e-3)
        assert (sample["caption_mask"] == mask[0].numpy()).all()


@pytest.mark.long
def test_latents_of_pictures_are_the_autoencoders(data: Path, autoencoder: Path, tmp_path: Path):
    import diffusers

    annotate(str(data), str(tmp_path / "out"), ImageLatentsOf(str(autoencoder)), batch=4)
    network = diffusers.AutoencoderKL.from_pretrained(autoencoder).eval()
    for sample in stored_in(tmp_path / "out").values():
        assert sample["image_latent"].shape == (4, sample["height"] // 2, sample["width"] // 2)
        with Image.open(io.BytesIO(sample["image"])) as opened:
            pixels = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.no_grad():
            mean = network.encode(pixels).latent_dist.mode()[0].numpy()
        np.testing.assert_allclose(sample["image_latent"], mean, atol=5e-3)


def test_a_captioner_adds_a_column_that_is_the_same_every_time(data: Path, captioner: Path, tmp_path: Path):
    network = CaptionsOf(str(captioner), column="written", prompt="picture of", tokens=5)
    annotate(str(data), str(tmp_path / "one"), network, batch=4)
    stored = stored_in(tmp_path / "one")
    assert list(stored) == list(stored_in(data))
    assert all(sample["written"] for sample in stored.values())
    annotate(str(data), str(tmp_path / "two"), network, batch=4)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_shards_are_annotated_alike_by_any_number_of_workers_and_not_twice(data: Path, tmp_path: Path):
    made = annotate(str(data), str(tmp_path / "one"), WidthsOf())
    annotate(str(data), str(tmp_path / "two"), WidthsOf(), executor=Here(2))
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert made.rejects == {"not_annotated": 2}
    assert all(sample["double"] == 2 * sample["width"] for sample in stored_in(tmp_path / "one").values())
    assert {file.name for file in data.rglob("*.mds")} >= {file.name for file in (tmp_path / "one").rglob("*.mds")}
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "one").rglob("*.mds")}
    annotate(str(data), str(tmp_path / "one"), WidthsOf())
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "one").rglob("*.mds")} == times


def test_a_shard_that_was_spoilt_is_refused(data: Path, tmp_path: Path):
    shutil.copytree(data, tmp_path / "data")
    victim = sorted((tmp_path / "data").rglob("*.mds"))[0]
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    with pytest.raises(ConversionError, match=rf"DATA: {victim.name}: sha1 is \w+, the index says \w+; copy it again, or convert again"):
        annotate(str(tmp_path / "data"), str(tmp_path / "out"), WidthsOf())


def test_what_cannot_be_annotated_is_refused_by_name(data: Path, tower: Path, tmp_path: Path):
    with pytest.raises(ConversionError, match=r"DATA .*none: .*dataset.json is not there; is its conversion done\?"):
        annotate(str(tmp_path / "none"), str(tmp_path / "out"), WidthsOf())
    with pytest.raises(ConversionError, match="has no column 'words'; it has caption, height, id, image, width"):
        annotate(str(data), str(tmp_path / "out"), TextStatesOf(str(tower), TOKENS, captions=(("words", "a", "b"),)))
    with pytest.raises(ConversionError, match="there is no such folder"):
        annotate(str(data), str(tmp_path / "other"), CaptionsOf(str(tmp_path / "nothing")))


@pytest.mark.long
def test_an_incomplete_network_is_refused(data: Path, autoencoder: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    for file in autoencoder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(weights).items() if name != "encoder.conv_in.weight"}, weights)
    with pytest.raises(ConversionError, match=r"1 missing keys \(encoder.conv_in.weight\): it would work with random weights"):
        annotate(str(data), str(tmp_path / "out"), ImageLatentsOf(str(tmp_path)))


def test_the_command_line_takes_the_tower_from_a_recipe(data: Path, tower: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from tests.tiny import tiny_recipe

    recipe = tiny_recipe(data, text={"encoder": "transformers", "source": str(tower), "tokens": TOKENS})
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    arguments = ["text-latents", str(data), str(tmp_path / "out"), "--recipe", str(tmp_path / "recipe.json"), "--workers", "1"]
    assert main(arguments) == 0
    assert "10 samples in" in capsys.readouterr().out
    assert main(["recaption", str(data), str(tmp_path / "other"), "--model", str(tmp_path / "gone"), "--workers", "1"]) == 1
    assert "there is no such folder" in capsys.readouterr().err
