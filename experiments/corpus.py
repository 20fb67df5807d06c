r"""
# Corpora

A corpus is a text, cut once: the last tenth is for validation, what comes before is for training.
Tokens are its characters.
"""

import hashlib
import http.client
import sysconfig
import tokenize
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from labml_gmlp.storage import write_aside

VALIDATION_SHARE = 0.1
UNKNOWN = "\ufffd"

TINY_SHAKESPEARE = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


class Vocabulary:
    r"""
    ## Characters as tokens

    The characters of the *training* part, sorted, behind one token for all others. Counting those
    of the validation part too would tell the model something about the text that it is measured on.

    A character never seen in training is the token 0 and is shown as U+FFFD. It counts in the loss
    like any other: the model must predict "something unknown", which it never met.

    * `characters` are the known ones, in the order of their tokens
    """

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._codes = np.array([ord(c) for c in characters], dtype=np.uint32)

    @classmethod
    def of(cls, training_text: str) -> "Vocabulary":
        return cls("".join(sorted(set(training_text) - {UNKNOWN})))

    def __len__(self) -> int:
        return len(self.characters) + 1

    def encode(self, text: str) -> Tensor:
        """Tokens of `text`, `[len(text)]`, whole numbers of 64 bits."""
        if not self.characters:
            return torch.zeros(len(text), dtype=torch.int64)
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        # The known codes are sorted: the place where a code would be inserted is its own if it is
        # known.
        place = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        known = self._codes[place] == codes
        return torch.from_numpy(np.where(known, place + 1, 0).astype(np.int64))

    def encode_known(self, prompt: str) -> Tensor:
        """Tokens of a `prompt`. Raises `ValueError` that names the characters it does not know."""
        unknown = sorted(set(prompt) - set(self.characters))
        if unknown:
            names = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in unknown)
            raise ValueError(f"prompt must use characters of the training text only, got {names}")
        return self.encode(prompt)

    def decode(self, tokens: list[int]) -> str:
        return "".join(self.characters[t - 1] if t else UNKNOWN for t in tokens)


@dataclass(frozen=True)
class Corpus:
    r"""
    ## A text, cut and encoded

    * `name` is what was asked for
    * `sha256` identifies the text: a run goes on with this one and no other
    * `vocabulary` turns characters to tokens
    * `train` and `validation` are tokens, `[n]`. The first token of `validation` is the last of
      `train`: as context only, so that each character of the validation part is predicted, the
      first too
    """

    name: str
    sha256: str
    vocabulary: Vocabulary
    train: Tensor
    validation: Tensor
    validation_characters: int = 0


def load_corpus(name, seq_len, data, vocabulary="characters", n_tokens=1024) -> Corpus:
    r"""
    ## Loading

    * `name` is `python`, `tiny_shakespeare` or the path of a UTF-8 text
    * `seq_len` is the context in characters
    * `data` is the folder that keeps what was downloaded

    Raises `ValueError` or `OSError` for a text that is missing, empty, not UTF-8 or too short.
    """
    if name == "python":
        text = standard_library()
    elif name == "tiny_shakespeare":
        text = read_text(download(TINY_SHAKESPEARE, TINY_SHAKESPEARE_SHA256, data / f"{name}.txt"))
    else:
        text = read_text(Path(name))
    split = round(len(text) * (1 - VALIDATION_SHARE))
    # Windows start anywhere in the first `seq_len` characters, so one whole window takes two.
    if split < 2 * seq_len or split == len(text):
        raise ValueError(
            f"corpus must have at least {2 * seq_len} characters for training with "
            f"seq_len={seq_len} and one for validation, got {split} and {len(text) - split} "
            f"in {name}"
        )
    from experiments.vocabulary import Characters

    vocabulary = Characters.of([text[:split]])
    if not vocabulary.characters:
        raise ValueError(f"corpus must have characters other than U+FFFD, got none in {name}")
    tokens = vocabulary.encode(text)
    return Corpus(
        name=name,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        vocabulary=vocabulary,
        train=tokens[:split],
        validation=tokens[split - 1 :],
        validation_characters=len(tokens) - split,
    )


def standard_library() -> str:
    r"""
    ## The default text

    Python's own standard library: the modules at its top, in the order of their names. It is on
    each machine that can run this, so the first run needs no network. It differs between versions
    of Python, and with it the loss.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    texts = []
    for path in sorted(folder.glob("*.py")):
        with tokenize.open(path) as file:
            texts.append(file.read())
    if not texts:
        raise ValueError(
            f"corpus python needs the standard library's sources, got none in {folder}"
        )
    return "".join(texts)


def read_text(path: Path) -> str:
    """The text of a file. Raises `ValueError` if it is empty or not UTF-8, with the place."""
    try:
        content = path.read_bytes()
    except IsADirectoryError as e:
        raise ValueError(f"corpus must be a file, got the folder {path}") from e
    except PermissionError as e:
        raise ValueError(f"corpus must be a file that may be read, got {path}") from e
    except (OSError, ValueError) as e:
        # No such file, or a name that no file can have.
        raise ValueError(
            f"corpus must be python, tiny_shakespeare or the path of a text file, got {str(path)!r}"
        ) from e
    if not content:
        raise ValueError(f"corpus must not be empty, got {path} with 0 bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as e:
        raise ValueError(
            f"corpus must be UTF-8 text, got byte 0x{content[e.start]:02X} "
            f"at offset {e.start} of {path}"
        ) from e


def download(url: str, sha256: str, path: Path) -> Path:
    r"""
    ## Downloading

    Fetches `url` to `path` if it is not there already. Raises `ValueError` if the content does not
    have the checksum `sha256`, and leaves nothing behind then.
    """
    if path.exists():
        content = path.read_bytes()
    else:
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                content = response.read()
        except (OSError, http.client.HTTPException) as e:
            raise ValueError(
                f"corpus must be downloaded from {url}, got {e!r}; or put the file at {path}"
            ) from e
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"corpus file {path} must have the SHA-256 {sha256}, got {found}; "
            f"without the file it is downloaded again"
        )
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, content)
    return path


class Windows:
    r"""
    ## The order of reading

    Training reads windows of `seq_len` characters and, one further, their targets. In each pass
    over the text the windows lie edge to edge, in a new random order, from a new random start, so
    every character is read about once a pass and seldom at the same place in its window.

    Which windows belong to a step follows from the seed and the step's number alone. So a resumed
    run reads on where it stopped, without any state to save.

    * `tokens` is the training part, `[n]`, at least `2 * seq_len` long
    * `seq_len` is the length of a window in tokens
    * `batch` is the number of windows a step
    * `seed` decides the order
    """

    def __init__(self, tokens: Tensor, seq_len: int, batch: int, seed: int) -> None:
        self.tokens = tokens
        self.seq_len = seq_len
        self.batch = batch
        self.seed = seed
        self.per_pass = len(tokens) // seq_len - 1
        self._starts = lru_cache(maxsize=2)(self._starts_of_pass)
        self._span = torch.arange(seq_len + 1)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step, `[batch, seq_len]` each."""
        first = step * self.batch
        starts = torch.stack(
            [
                self._starts(k // self.per_pass)[k % self.per_pass]
                for k in range(first, first + self.batch)
            ]
        )
        window = self.tokens[starts[:, None] + self._span]  # [batch, seq_len + 1]
        return window[:, :-1], window[:, 1:]

    def _starts_of_pass(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        start = torch.randint(self.seq_len, (1,), generator=generator)
        order = torch.randperm(self.per_pass, generator=generator)
        return start + self.seq_len * order

    def batches(self, step, share):
        while True:
            x, y = self.at(step)
            for rows in share.rows(self.batch):
                yield x[rows.start : rows.stop], y[rows.start : rows.stop]
            step += 1
