"""Moses' punctuation normalization and tokenization, by sacremoses."""

from __future__ import annotations

import re

from sacremoses import MosesPunctNormalizer, MosesTokenizer


class _Tokenizer(MosesTokenizer):
    """sacremoses' own, but for two sets that it makes anew for every full stop inside a line.

    One of them holds a hundred thousand letters: "e.g." alone took milliseconds.
    """

    _LOWER = frozenset(MosesTokenizer.IsLower)
    _ALPHA = frozenset(MosesTokenizer.IsAlpha)

    def islower(self, text: str) -> bool:
        return self._LOWER.issuperset(text)

    def isanyalpha(self, text: str) -> bool:
        return not self._ALPHA.isdisjoint(text)


class Moses:
    """What the field's recipes do to a sentence before BPE.

    Dashes inside words are split off and marked (``@-@``), XML's special characters are escaped:
    both as in fairseq's own recipes, and both undone by sacremoses' detokenizer.
    """

    def __init__(self, language: str) -> None:
        self._normalizer = MosesPunctNormalizer(language)
        self._tokenizer = _Tokenizer(language)
        # Most sentences have nothing to normalize; one search for all patterns finds that out
        # several times faster than 45 substitutions. One space for one space changes nothing.
        patterns = ("  +" if p == " +" else p for p, _ in self._normalizer.substitutions)
        self._anything = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))

    def tokenize(self, sentence: str) -> str:
        """Return the normalized tokens with spaces between them."""
        if self._anything.search(sentence):
            sentence = self._normalizer.normalize(sentence)
        return self._tokenizer.tokenize(sentence, aggressive_dash_splits=True, return_str=True)
