r"""Rewrites the tables of `docs/speed.md` from the recorded results.

# The page on speed

```
python -m benchmarks.speed
```

The data are in `benchmarks/results/`. The command replaces the text between the `begin` and `end`
comments of each table; the prose around them is written by hand.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import blocks, generation, throughput, toeplitz
from experiments.reporting.tables import replace_between
from labml_gmlp.storage import atomic_write

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "speed.md"
RESULTS = ROOT / "benchmarks" / "results"

# The name of each result, as in its `begin` and `end` comments, and the function for its table.
TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "blocks": blocks.table,
    "throughput": throughput.table,
    "generation": generation.table,
    "toeplitz": lambda record: toeplitz.table(record["points"]).rstrip(),
}


def provenance(record: dict[str, Any]) -> str:
    """The command, hardware, version and commit behind a table."""
    where = record["environment"]
    return (
        f"`{where['command']}`; {where['hardware']}; torch {where['torch']}; "
        f"commit {where['commit']}, {where['date'][:10]}."
    )


def page() -> str:
    """The page with up-to-date tables."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        record = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        text = replace_between(text, name, f"{table(record)}\n\n{provenance(record)}")
    return text


if __name__ == "__main__":
    atomic_write(PAGE, page().encode())
