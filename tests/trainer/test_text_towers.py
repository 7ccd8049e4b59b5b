"""Text towers of the published kinds as tiny random models through the real loaders, and captions that are encoded while a run trains."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
    T5GemmaModuleConfig,
)

from dayrun.objects import Prefix
from dayrun.run_folder import EXIT_FAILED, RunFolder
from tests.networks import change
from tests.tiny import tiny_recipe, write_data
from tests.trainer.here import train_here
from trainer.cleaning import deepfloyd
from trainer.text import TowerError, load_text_encoder

WORDS = ["<pad>", "<unk>", "a", "red", "apple", "noise", *map(str, range(64))]
WIDTH = 16


def write_tokenizer(folder: Path) -> None:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", padding_side="left").save_pretrained(folder)


SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "vocab_size": len(WORDS),
}


def write_t5gemma(folder: Path) -> Path:
    torch.manual_seed(0)
    part = T5GemmaModuleConfig(**SIZES, query_pre_attn_scalar=8)
    config = T5GemmaConfig(encoder=part.to_dict(), decoder=part.to_dict(), vocab_size=len(WORDS))
    T5GemmaForConditionalGeneration(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_qwen3_vl(folder: Path) -> Path:
    torch.manual_seed(0)
    rotary = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 4, "out_hidden_size": WIDTH}
    config = Qwen3VLConfig(
        text_config=SIZES | {"rope_parameters": rotary},
        vision_config=vision | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        image_token_id=1,
        video_token_id=1,
        vision_start_token_id=1,
        vision_end_token_id=1,
        tie_word_embeddings=True,
    )
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


WRITE = {"t5gemma": write_t5gemma, "qwen3_vl": write_qwen3_vl}


@pytest.mark.parametrize("kind", WRITE)
def test_states_are_those_of_the_saved_model(tmp_path: Path, kind: str):
    tower = load_text_encoder(str(WRITE[kind](tmp_path)), 6, kind)
    assert tower.width == WIDTH
    states, mask = tower.encode(["a red apple", "noise", ""])
    assert states.shape == (3, 6, WIDTH)
    assert mask.sum(dim=1).tolist() == [3, 1, 0]
    assert mask[0].tolist() == [True] * 3 + [False] * 3  # padded at the end, whatever the tokenizer was saved with
    assert (states[~mask] == 0).all()
    assert states.isfinite().all()
    if kind == "t5gemma":
        model = T5GemmaForConditionalGeneration.from_pretrained(tmp_path).eval().model.encoder
    else:
        model = Qwen3VLForConditionalGeneration.from_pretrained(tmp_path).eval().model.language_model
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([[2, 3, 4]])).last_hidden_state
    torch.testing.assert_close(states[0, :3], wanted[0], atol=1e-5, rtol=1e-5)


KEYS = {
    "t5gemma": ("model.encoder.layers.1.self_attn.q_proj.weight", "encoder.layers.1.self_attn.q_proj.weight"),
    "qwen3_vl": ("model.language_model.layers.1.self_attn.q_norm.weight", "model.language_model.layers.1.self_attn.q_norm.weight"),
}


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize("damage", ["missing", "renamed", "unexpected"])
def test_a_checkpoint_that_is_not_whole_is_refused_by_its_keys(tmp_path: Path, kind: str, damage: str):
    saved, told = KEYS[kind]

    def edit(weights: dict[str, torch.Tensor]) -> None:
        if damage != "unexpected":
            weight = weights.pop(saved)
            if damage == "renamed":
                weights[f"{saved}.old"] = weight
        else:
            weights["model.stranger.weight"] = torch.zeros(1)

    change(WRITE[kind](tmp_path) / "model.safetensors", edit)
    with pytest.raises(TowerError) as caught:
        load_text_encoder(str(tmp_path), 6, kind)
    assert "/text/source" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    if damage == "unexpected":
        assert "1 unexpected keys" in str(caught.value)
        assert "stranger.weight" in str(caught.value)
    else:
        assert "1 missing keys" in str(caught.value)
        assert told in str(caught.value)


def test_a_loader_refuses_the_other_tower(tmp_path: Path):
    write_qwen3_vl(tmp_path)
    with pytest.raises(TowerError, match="is a 'qwen3_vl' and /text/encoder says 't5gemma'"):
        load_text_encoder(str(tmp_path), 6, "t5gemma")


# ---- captions encoded while a run trains ---------------------------------------------------------------------------------------------


def test_a_run_encodes_its_own_captions_and_resumes_in_the_same_bits(tmp_path: Path):
    data = write_data(tmp_path / "data", width=WIDTH)
    tower = write_t5gemma(tmp_path / "tower")
    plain = tiny_recipe(data, processes=1)
    text = {"encoder": "t5gemma", "source": str(tower), "tokens": 4, "precomputed": False, "cleaning": "deepfloyd"}
    stages = [{"name": "one", "pixels": 8, "steps": 6, "batch_size": 4}]
    sections = {
        "text": text,
        "stages": stages,
        "checkpoints": {"every": 3},
        "objective": {"caption_dropout": 0.5},
        "schedule": {"warmup_steps": 0},
    }
    recipe = plain | sections | {"model": plain["model"] | {"text_width": WIDTH}}

    def losses(out: Path) -> list[float]:
        return [m["value"] for m in RunFolder(Prefix(out)).metrics() if m["name"] == "loss"]

    import shutil

    straight, again = tmp_path / "straight", tmp_path / "again"
    assert train_here(recipe, RunFolder(Prefix(straight))) == 0
    shutil.copytree(straight, again)
    shutil.rmtree(again / "checkpoints" / "00000006")
    assert train_here(recipe, RunFolder(Prefix(again))) == 0
    assert losses(again)[-3:] == losses(straight)[-3:]
    without = recipe | {"text": text | {"precomputed": True}}
    assert train_here(without, RunFolder(Prefix(tmp_path / "other"))) == 0
    assert losses(tmp_path / "other") != losses(straight)  # the shards' states are noise: the tower's were used
    wrong = recipe | {"model": plain["model"] | {"text_width": 8}, "objective": {"caption_dropout": 0}}
    assert train_here(wrong, RunFolder(Prefix(tmp_path / "wrong"))) == EXIT_FAILED
    (ended,) = [event for event in RunFolder(Prefix(tmp_path / "wrong")).events() if event["type"] == "ended"]
    assert ended["data"]["cause"] == "spec"
    assert "/model/text_width" in " ".join(ended["data"]["evidence"])


# ---- cleaning ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ("  A Red Apple  ", "a red apple"),
        ("A%20red+apple", "a red apple"),
        ("<person> eats", "person eats"),
        ("see https://example.com/a/b?c for more", "see ?c for more"),
        ("by @painter42 today", "by today"),
        ("一 red 苹果 apple", " red apple".strip()),
        ("red — green – blue", "red - green - blue"),
        ("a «red» “green” ‘blue’ b", 'a "red" "green" \'blue\' b'),
        ("host 10.0.0.1 is red", "host is red"),
        ("#12 and #123456 and 1234567", "and and"),
        ("a cat IMG_2301.jpg", "a cat"),
        ("***sale***, #sale", "sale , sale"),
        ("this-is-my_cute-cat", "this is my cute cat"),
        ("well-known cat", "well-known cat"),
        ("cat jc6640 on mat", "cat on mat"),
        ("cat 6640vc231 on mat", "cat on mat"),
        ("a lamp free shipping", "a lamp"),
        ("free download of a lamp", "of a lamp"),
        ("click for more lamps", "lamps"),
        ("lamp 1920x1080 page 12", "lamp"),
        ("red,green", "red, green"),
        ('"a red apple"', "a red apple"),
        ("caf&eacute; at night", "caf eacute; at night"),
        ("ﬁne ｗｉｄｅ letters", "fine wide letters"),
        ("wait... what", "wait what"),
    ],
)
def test_deepfloyds_rules_take_out_what_a_crawl_leaves(caption: str, cleaned: str):
    assert deepfloyd(caption) == cleaned
