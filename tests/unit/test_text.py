"""The frozen text tower: real loading code on a tiny random model of a real class. A missing weight is never replaced by chance."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, BertTokenizerFast

from trainer.text import TowerError, clean, load_text_encoder


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 8}
    BertModel(BertConfig(**sizes)).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "apple"]))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    return tmp_path


def test_states_are_masked_and_do_not_depend_on_the_batch(tower: Path):
    encoder = load_text_encoder(str(tower), tokens=6)
    states, masks = encoder.encode(["a red apple", "a"])
    assert states.shape == (2, 6, 16)
    assert masks.sum(dim=1).tolist() == [5, 3]
    assert (states[~masks] == 0).all()
    alone, _ = encoder.encode(["a"])
    torch.testing.assert_close(alone[0], states[1], atol=1e-6, rtol=1e-5)


def change(tower: Path, edit) -> None:
    file = tower / "model.safetensors"
    weights = load_file(file)
    edit(weights)
    save_file(weights, file, metadata={"format": "pt"})


def test_a_missing_weight_is_refused_by_name(tower: Path):
    change(tower, lambda weights: weights.pop("encoder.layer.0.attention.self.query.weight"))
    with pytest.raises(TowerError, match=r"1 missing keys of BertModel.*query\.weight.*random weights"):
        load_text_encoder(str(tower), 6)


def test_a_weight_that_the_architecture_does_not_know_is_refused(tower: Path):
    change(tower, lambda weights: weights.update(stranger=torch.zeros(1)))
    with pytest.raises(TowerError, match="1 unexpected keys"):
        load_text_encoder(str(tower), 6)


def test_a_tower_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(TowerError, match="there is no such folder"):
        load_text_encoder(str(tmp_path / "none" / "deeper"), 6)
    with pytest.raises(TowerError, match="pip install no-such-tower"):
        load_text_encoder("package:no_such_tower", 6)


def test_captions_are_cleaned():
    assert clean("  a &amp;amp; b\n c  ", "light") == "a & b c"
    assert clean("  a  ", "none") == "  a  "
