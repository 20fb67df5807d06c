"""Encoding a text in processes of their own, some of which kill themselves."""

import itertools
import os
import re
import signal
import stat
import time
from pathlib import Path

from experiments.text import source
from experiments.text.corpus import load_corpus


def encode_killed(text: Path, data: Path, die_at_flush: int) -> None:
    """Encodes a text; the process kills itself in the middle of a flush to disk."""
    flushes, flush = itertools.count(1), os.fsync

    def fsync(fd: int) -> None:
        if next(flushes) == die_at_flush:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.ftruncate(fd, os.fstat(fd).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        flush(fd)

    os.fsync = fsync
    load_corpus(str(text), 16, data)


def encode_at(moment: float, text: Path, data: Path, out: Path) -> None:
    """Encodes a text at a moment, and writes the decoded training split to `out`."""
    while time.time() < moment:
        pass
    corpus = load_corpus(str(text), 16, data)
    out.write_text(corpus.vocabulary.decode(corpus.train[:].tolist()))


def measure_memory(
    large: Path, small: Path, data: Path, out: Path, vocabulary: str, chunk_size: int
) -> None:
    """Writes the number of training tokens, and by how many MB the encoding raises the peak."""
    source.CHUNK_SIZE = chunk_size

    # Not `getrusage`, which starts with the peak of the parent process.
    def peak() -> float:
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024 / 1e6

    def load(text: Path) -> int:
        return len(load_corpus(str(text), 64, data, vocabulary=vocabulary, n_tokens=300).train)

    # Loads the packages and pages of code that any text needs.
    load(small)
    before = peak()
    # The first time encodes, the second time reads the tokens.
    load(large)
    out.write_text(f"{load(large)} {peak() - before}")
