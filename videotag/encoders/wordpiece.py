"""BERT's WordPiece tokens of texts, by the library `tokenizers`, from a published vocabulary.

Needs `pip install 'videotag[text]'`.
Shapes: N texts, S tokens of the longest text of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from videotag.errors import ConfigError, WeightsError
from videotag.system.json_text import read_json
from videotag.system.text import read_text

INSTALL = "pip install 'videotag[text]'"
VOCABULARY_FILE = "vocab.txt"
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_MAX_WORD = 100  # characters; a longer word is unknown
_MAX_VOCABULARY_BYTES = 2**26


class WordPiece:
    """Divides texts into the tokens of a vocabulary: [CLS], the text's own, [SEP].

    Args:
        folder: Folder with vocab.txt, one token per line in the order of ids. If it has a
            tokenizer_config.json, its do_lower_case applies; otherwise texts are lower-cased.
        max_tokens: Maximum number of tokens of a text, at least 2; the rest of the text is dropped.

    Raises:
        ConfigError: The library is not installed.
        WeightsError: The vocabulary is missing, or lacks a special token.
    """

    def __init__(self, folder: Path, *, max_tokens: int) -> None:
        try:
            import tokenizers
            from tokenizers import models, normalizers, pre_tokenizers, processors
        except ImportError as error:
            raise ConfigError(f"texts: BERT needs tokenizers; run: {INSTALL}") from error
        vocabulary = _read_vocabulary(folder / VOCABULARY_FILE)
        lower = _lower_cases(folder / "tokenizer_config.json")
        tokenizer: Any = tokenizers.Tokenizer(
            models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=_MAX_WORD)
        )
        tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.NFC(),
                normalizers.BertNormalizer(
                    clean_text=True, handle_chinese_chars=True, strip_accents=lower, lowercase=lower
                ),
            ]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        # Not [MASK] if the vocabulary lacks it: its new id would be one that the network has no row for.
        tokenizer.add_special_tokens([token for token in SPECIAL_TOKENS if token in vocabulary])
        cls, sep = (("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"]))
        tokenizer.post_processor = processors.BertProcessing(sep, cls)
        tokenizer.enable_truncation(max_tokens)
        self._tokenizer = tokenizer
        self._padding = vocabulary["[PAD]"]
        self.size = max(vocabulary.values()) + 1

    def tokens(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids (N, S) int64 and mask (N, S) bool, True on tokens, of N texts, N >= 1."""
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        length = max(len(ids) for ids in encoded)
        ids = np.full((len(encoded), length), self._padding, np.int64)
        mask = np.zeros(ids.shape, bool)
        for row, own in enumerate(encoded):
            ids[row, : len(own)] = own
            mask[row, : len(own)] = True
        return ids, mask


def _read_vocabulary(path: Path) -> dict[str, int]:
    """Token -> id."""
    remedy = "give the folder of a BERT model, with its vocabulary"
    text = read_text(path, error=WeightsError, missing=remedy, max_bytes=_MAX_VOCABULARY_BYTES)
    lines = text.split("\n")
    if lines and not lines[-1]:
        del lines[-1]
    vocabulary = {token.rstrip("\r"): number for number, token in enumerate(lines)}
    missing = [token for token in SPECIAL_TOKENS[:4] if token not in vocabulary]
    if missing:
        raise WeightsError(f"{path}: no token {missing[0]}, so it is not a vocabulary of BERT; {remedy}")
    return vocabulary


def _lower_cases(path: Path) -> bool:
    if not path.exists():
        return True
    content = read_json(path, error=WeightsError, remedy="remove the file")
    return not isinstance(content, dict) or content.get("do_lower_case", True) is not False
