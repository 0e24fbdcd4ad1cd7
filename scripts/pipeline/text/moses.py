"""Normalize punctuation and tokenize like Moses, through sacremoses."""

from __future__ import annotations

import re

from sacremoses import MosesPunctNormalizer, MosesTokenizer


class _Tokenizer(MosesTokenizer):
    """sacremoses' tokenizer with two sets that are built once.

    sacremoses builds both sets again for every full stop inside a line. One set has a hundred
    thousand letters, so "e.g." alone took milliseconds.
    """

    _LOWER = frozenset(MosesTokenizer.IsLower)
    _ALPHA = frozenset(MosesTokenizer.IsAlpha)

    def islower(self, text: str) -> bool:
        return self._LOWER.issuperset(text)

    def isanyalpha(self, text: str) -> bool:
        return not self._ALPHA.isdisjoint(text)


class Moses:
    """Normalization and tokenization of a sentence before BPE, as in the field's recipes.

    Dashes inside words are split off and marked (``@-@``). XML's special characters are escaped.
    Both steps are as in fairseq's recipes, and sacremoses' detokenizer undoes both.
    """

    def __init__(self, language: str) -> None:
        self._normalizer = MosesPunctNormalizer(language)
        self._tokenizer = _Tokenizer(language)
        # Most sentences need no normalization. One search for all patterns shows this several times
        # faster than 45 substitutions. The pattern of spaces is changed to two spaces or more, as
        # the replacement of one space by one space changes nothing.
        patterns = ("  +" if p == " +" else p for p, _ in self._normalizer.substitutions)
        self._anything = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))

    def tokenize(self, sentence: str) -> str:
        """Return the normalized tokens, separated by spaces."""
        if self._anything.search(sentence):
            sentence = self._normalizer.normalize(sentence)
        return self._tokenizer.tokenize(sentence, aggressive_dash_splits=True, return_str=True)
