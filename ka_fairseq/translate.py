#!/usr/bin/env python3
"""Translate text with a model that ``python -m ka_fairseq.export --to ctranslate2`` wrote.

An exported folder holds a copy of this file: ``python translate.py < text.de > text.en``. The copy
needs the packages in the folder's ``requirements.txt``, but neither fairseq nor torch. The copy can
also be imported::

    from translate import Translator
    Translator("folder").translate(["Ein Satz.", "Noch einer."])
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import json
import logging
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

SETTINGS_FILE = "translate.json"
BUFFER_LINES = 2000
BATCH_TOKENS = 512  # on a CPU a fifth faster than 2048 for the demo's teacher, a tenth for students

_MOST_TOKENS = 200  # --max-len-b of fairseq-generate; a longer source may give twice its length
_SENTENCE_ENDS = tuple(".!?;:…。！？；")

logger = logging.getLogger("translate")


class TranslateError(ValueError):
    """A wrong input, reported in one line that says what to change."""


class Translation(NamedTuple):
    """One translation of a line.

    Attributes:
        text: the translation, without subwords or tokenization.
        score: the natural logarithm of the probability, divided by the length to the power of the
            length penalty. The length is in subwords, the end included. A line that was split has
            the mean score of its parts. fairseq-generate reports logarithms to base 2.
    """

    text: str
    score: float


class Translator:
    """Translate raw text to raw text: segmentation, model and detokenization.

    Args:
        folder: written by ``python -m ka_fairseq.export --to ctranslate2``.
        beam: hypotheses followed at a time; by default the folder's setting.
        threads: batches translated at a time on a CPU; by default the number of cores.
        device: ``cpu``, ``cuda``, or ``auto`` for CUDA where CUDA works.
        batch_tokens: subwords in a batch, padding included; a GPU can take more.

    Raises:
        TranslateError: the folder is not an exported one, a package is not installed, or the device
            is missing.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        beam: int | None = None,
        threads: int | None = None,
        device: str = "cpu",
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        folder = Path(folder)
        settings = _settings(folder)
        self.beam: int = settings["beam"] if beam is None else beam
        if self.beam < 1:
            raise TranslateError(f"a beam of {self.beam}: give 1 or more")
        self._lenpen: float = settings["lenpen"]
        self._most_source: int = settings["max_source_tokens"]
        self._most_target: int = settings["max_target_tokens"]
        self._batch_tokens = batch_tokens
        threads = threads or _cores()
        try:
            self.segmentation = _Text(folder, settings)
            self._model = _load(folder, device, threads)
        except ImportError as error:
            raise TranslateError(
                f"{error.name} is not installed: pip install -r {folder / 'requirements.txt'}"
            ) from error
        except (OSError, RuntimeError, ValueError) as error:
            raise TranslateError(f"{folder} cannot be used on {device}: {error}") from error

    def translate(self, lines: Iterable[str]) -> list[str]:
        """Return the best translation of each line, in order. An empty line gives an empty text.

        Raises:
            TypeError: `lines` is one string.
        """
        return [best.text for best, *_ in self.stream(lines)]

    def stream(
        self, lines: Iterable[str], *, n_best: int = 1, buffer: int = BUFFER_LINES
    ) -> Iterator[list[Translation]]:
        """Translate lines while they arrive.

        Args:
            lines: sentences.
            n_best: how many translations of each line, at most the beam.
            buffer: how many lines to read before the first answer. A larger buffer gives batches
                of lines with more similar lengths.

        Yields:
            The best translations of each line, in the order of the lines, best first. An empty line
            gives empty translations.

        Raises:
            TranslateError: `n_best` is more than the beam.
            TypeError: `lines` is one string.
        """
        if isinstance(lines, str):
            raise TypeError("give a list of lines, not one string")
        if not 1 <= n_best <= self.beam:
            raise TranslateError(
                f"a beam of {self.beam} has no {n_best} translations: ask for 1 to {self.beam}, "
                "or raise the beam"
            )
        return self._stream(lines, n_best, buffer)

    def _stream(
        self, lines: Iterable[str], n_best: int, buffer: int
    ) -> Iterator[list[Translation]]:
        number = 0
        for chunk in _chunks(lines, buffer):
            parts = [self._parts(line, number + place) for place, line in enumerate(chunk, 1)]
            number += len(chunk)
            results = iter(self._results([part for line in parts for part in line], n_best))
            for line in parts:
                yield self._joined([next(results).result() for _ in line], n_best)

    def _parts(self, line: str, number: int) -> list[list[str]]:
        """Return a line's subwords: no part for an empty line, several for a very long line."""
        tokens = self.segmentation.encode(line)
        if len(tokens) <= self._most_source:
            return [tokens] if tokens else []
        parts = split(tokens, self._most_source, self.segmentation.begins_word)
        logger.warning(
            f"line {number}: {len(tokens)} subwords, more than the {self._most_source} that the "
            f"model reads at a time: split into {len(parts)} parts, each translated on its own"
        )
        return parts

    def _results(self, sources: list[list[str]], n_best: int) -> list[Any]:
        """Start to translate sources; return a future result for each source."""
        results: list[Any] = [None] * len(sources)
        # Two groups, so that a translation's length limit does not depend on the other sources.
        short = [i for i, source in enumerate(sources) if 2 * len(source) <= _MOST_TOKENS]
        long = [i for i, source in enumerate(sources) if 2 * len(source) > _MOST_TOKENS]
        for places in filter(None, (short, long)):
            some = [sources[i] for i in places]
            most = max(_MOST_TOKENS, 2 * max(map(len, some)))
            for place, result in zip(places, self._submit(some, n_best, most), strict=True):
                results[place] = result
        return results

    def _submit(self, sources: list[list[str]], n_best: int, most: int) -> list[Any]:
        return self._model.translate_batch(
            sources,
            beam_size=self.beam,
            num_hypotheses=n_best,
            length_penalty=self._lenpen,
            max_input_length=0,  # longer sources were split
            max_decoding_length=min(self._most_target, most),
            max_batch_size=self._batch_tokens,
            batch_type="tokens",
            return_scores=True,
            asynchronous=True,
        )

    def _joined(self, results: Sequence[Any], n_best: int) -> list[Translation]:
        if not results:
            return [Translation("", 0.0)] * n_best
        return [
            Translation(
                " ".join(self.segmentation.decode(result.hypotheses[rank]) for result in results),
                sum(result.scores[rank] for result in results) / len(results),
            )
            for rank in range(n_best)
        ]


def split(
    tokens: Sequence[str], most: int, begins_word: Callable[[Sequence[str], int], bool]
) -> list[list[str]]:
    """Cut subwords into parts: after the end of a sentence, else between words, else anywhere.

    Args:
        tokens: subwords of a line.
        most: the greatest number of subwords in a part.
        begins_word: whether the subword at an index begins a word.

    Returns:
        The parts. No part is empty; the parts together are `tokens`.
    """
    parts, rest = [], list(tokens)
    while len(rest) > most:
        # Cut in the second half only, so that each part has enough context.
        words = [i for i in range(most // 2 + 1, most + 1) if begins_word(rest, i)]
        ends = [i for i in words if rest[i - 1].endswith(_SENTENCE_ENDS)]
        cut = max(ends or words or [most])
        parts.append(rest[:cut])
        rest = rest[cut:]
    return [*parts, rest] if rest else parts


def _load(folder: Path, device: str, threads: int) -> Any:
    """Return CTranslate2's translator; on a GPU only after a first translation has worked there.

    CTranslate2 may see a GPU that it cannot use. With the first translation CTranslate2 loads
    cuBLAS, in the version that CTranslate2 was built for.

    Raises:
        RuntimeError: the device is missing, or a part of CUDA that CTranslate2 needs.
    """
    import ctranslate2

    def on(name: str) -> Any:
        return ctranslate2.Translator(
            str(folder), device=name, inter_threads=threads, intra_threads=1
        )

    if device == "cpu" or (device == "auto" and not ctranslate2.get_cuda_device_count()):
        return on("cpu")
    try:
        model = on("cuda")
        model.translate_batch([[""]], max_decoding_length=1)
    except (RuntimeError, ValueError) as error:
        if device == "cuda":
            raise
        logger.warning("translating on the CPU: CTranslate2 cannot use the GPU here (%s)", error)
        return on("cpu")
    return model


class _Text:
    """Segment raw lines into subwords, and join subwords, as the settings say."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        segmentation = settings["segmentation"]
        self._subwords = _METHODS[segmentation["method"]](folder, segmentation)
        self._unicode_form = settings["unicode_form"]
        self._moses = _Moses(**settings["moses"]) if settings["moses"] else None
        self.begins_word = self._subwords.begins_word

    def encode(self, line: str) -> list[str]:
        line = " ".join(line.split())
        if self._unicode_form:
            line = unicodedata.normalize(self._unicode_form, line)
        if self._moses:
            line = self._moses.tokenize(line)
        return self._subwords.encode(line)

    def decode(self, tokens: list[str]) -> str:
        text = self._subwords.decode(tokens)
        return self._moses.detokenize(text) if self._moses else text


class _Moses:
    """Moses' normalization and tokenization by sacremoses."""

    def __init__(
        self,
        source: str,
        target: str,
        normalize: bool,
        aggressive_dash_splits: bool,
        escape: bool,
    ) -> None:
        from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer

        self._normalizer = MosesPunctNormalizer(source) if normalize else None
        self._tokenizer = MosesTokenizer(source)
        self._detokenizer = MosesDetokenizer(target)
        self._options = {"aggressive_dash_splits": aggressive_dash_splits, "escape": escape}

    def tokenize(self, line: str) -> str:
        if self._normalizer:
            line = self._normalizer.normalize(line)
        return self._tokenizer.tokenize(line, return_str=True, **self._options)

    def detokenize(self, line: str) -> str:
        return self._detokenizer.detokenize(line.split())


class _SentencePiece:
    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        import sentencepiece

        self._model = sentencepiece.SentencePieceProcessor(
            model_file=str(folder / settings["model"])
        )

    def encode(self, line: str) -> list[str]:
        return self._model.encode(line, out_type=str)

    def decode(self, tokens: list[str]) -> str:
        return self._model.decode(tokens)

    @staticmethod
    def begins_word(tokens: Sequence[str], index: int) -> bool:
        return tokens[index].startswith("\u2581")


class _SubwordNmt:
    _JOINT = "@@"
    _CACHED_WORDS = 200_000  # subword-nmt's own cache has no limit

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        from subword_nmt.apply_bpe import BPE, read_vocabulary

        vocabulary = None
        if settings["vocabulary"]:
            with (folder / settings["vocabulary"]).open(encoding="utf-8") as file:
                vocabulary = read_vocabulary(file, settings["vocabulary_threshold"])
        with (folder / settings["codes"]).open(encoding="utf-8") as file:
            self._bpe = BPE(file, vocab=vocabulary, separator=self._JOINT)

    def encode(self, line: str) -> list[str]:
        if len(self._bpe.cache) > self._CACHED_WORDS:
            self._bpe.cache.clear()
        return self._bpe.segment(line).split()

    def decode(self, tokens: list[str]) -> str:
        return f"{' '.join(tokens)} ".replace(f"{self._JOINT} ", "").rstrip()

    @classmethod
    def begins_word(cls, tokens: Sequence[str], index: int) -> bool:
        return not tokens[index - 1].endswith(cls._JOINT)


class _Words:
    """Split text at spaces; the words are the tokens."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        del folder, settings  # only the other methods need them

    def encode(self, line: str) -> list[str]:
        return line.split()

    def decode(self, tokens: list[str]) -> str:
        return " ".join(tokens)

    @staticmethod
    def begins_word(tokens: Sequence[str], index: int) -> bool:
        del tokens, index
        return True


_METHODS = {"sentencepiece": _SentencePiece, "subword-nmt": _SubwordNmt, "none": _Words}


def _settings(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TranslateError(
            f"{folder}: {SETTINGS_FILE} cannot be read ({error}); give a folder that "
            "python -m ka_fairseq.export --to ctranslate2 wrote"
        ) from error


def _cores() -> int:
    # Some systems do not report which cores this process may use.
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _chunks(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    chunk: list[str] = []
    try:
        for line in lines:
            chunk.append(line)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except TranslateError:  # a broken line: first translate the lines before it
        yield chunk
        raise
    yield chunk


def read_lines(file: BinaryIO, name: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 file without line ends. Only a newline ends a line.

    Args:
        file: opened for reading bytes.
        name: the file's name, for the error.

    Raises:
        TranslateError: a line is not UTF-8 text. The message names the line.
    """
    for number, line in enumerate(file, 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        place = line.find(b"\0")
        if place >= 0:
            raise TranslateError(
                f"{name}, line {number}: byte {place + 1} is NUL; is it UTF-16? Give UTF-8 text"
            )
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise TranslateError(
                f"{name}, line {number}: no valid UTF-8 at byte {error.start + 1} ({error.reason})"
            ) from None


def _parser(folder: Path | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=None if folder else "python -m ka_fairseq.translate",
        description="Translate text with one sentence per line. Write one translation per line.",
    )
    if folder is None:
        parser.add_argument("folder", type=Path, help="a folder that --to ctranslate2 wrote")
    parser.add_argument(
        "files", nargs="*", help="text files in UTF-8; - is standard input (default: -)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="file to write (default: standard output)"
    )
    parser.add_argument(
        "--beam", type=int, help="hypotheses followed at a time (default: the folder's setting)"
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: one per core)")
    parser.add_argument("--device", choices=("cpu", "cuda", "auto"), default="cpu")
    parser.add_argument(
        "--n-best",
        type=int,
        metavar="N",
        help="write N translations of each line, one per row: line number, tab, translation",
    )
    parser.add_argument(
        "--scores",
        action="store_true",
        help="write score and tab before each translation (log-probability divided by length)",
    )
    parser.add_argument(
        "--batch-tokens",
        type=int,
        default=BATCH_TOKENS,
        help="subwords in a batch (default: %(default)s)",
    )
    parser.add_argument(
        "--buffer",
        type=int,
        help=f"lines to read before the first answer (default: {BUFFER_LINES}; 1 for typed input)",
    )
    return parser


def _rows(number: int, translations: list[Translation], n_best: bool, scores: bool) -> str:
    rows = []
    for text, score in translations:
        columns = [str(number)] * n_best + [f"{score:.4f}"] * scores
        text = text.replace("\n", " ")
        rows.append("\t".join([*columns, text.replace("\t", " ") if columns else text]))
    return "".join(f"{row}\n" for row in rows)


def _inputs(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if name == "-":
            yield from read_lines(sys.stdin.buffer, "standard input")
            continue
        with Path(name).open("rb") as file:
            yield from read_lines(file, name)


def _count_lines(names: Sequence[str]) -> int | None:
    """Return the number of lines in the inputs, or None if an input is not a file."""
    if not all(Path(name).is_file() for name in names):
        return None
    total = 0
    for name in names:
        with Path(name).open("rb") as file:
            total += sum(1 for _ in file)
    return total


def _run(args: argparse.Namespace, folder: Path) -> None:
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    for option in ("beam", "threads", "n_best", "batch_tokens", "buffer"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise TranslateError(f"--{option.replace('_', '-')} {value}: give 1 or more")
    names = args.files or ["-"]
    if missing := [name for name in names if name != "-" and not Path(name).exists()]:
        raise TranslateError(f"no file {missing[0]}: check the path")
    translator = Translator(
        folder,
        beam=args.beam,
        threads=args.threads,
        device=args.device,
        batch_tokens=args.batch_tokens,
    )
    typed = "-" in names and sys.stdin.isatty()
    found = translator.stream(
        _inputs(names),
        n_best=args.n_best or 1,
        buffer=args.buffer or (1 if typed else BUFFER_LINES),
    )
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(args.output.open("wb")) if args.output else sys.stdout.buffer
        stack.enter_context(logging_redirect_tqdm())
        seen = typed or (args.output is None and sys.stdout.isatty())
        bar = tqdm(
            found,
            total=_count_lines(names),
            desc="translating",
            unit=" lines",
            disable=True if seen else None,  # None: disabled if standard error is not a terminal
        )
        for number, translations in enumerate(bar, 1):
            rows = _rows(number, translations, args.n_best is not None, args.scores)
            output.write(rows.encode("utf-8"))
            if typed:
                output.flush()
        output.flush()


def main() -> None:
    """Parse the command line and translate."""
    here = Path(__file__).resolve().parent
    own = here if (here / SETTINGS_FILE).is_file() else None
    args = _parser(own).parse_args()
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        _run(args, own or args.folder)
    except (TranslateError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader has stopped, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        sys.exit(f"error: {' '.join(str(error).split())}")
    except ImportError as error:
        sys.exit(f"error: {error.name} is not installed: pip install -r requirements.txt")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
