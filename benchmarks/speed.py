r"""
# The page of speed

```
python -m benchmarks.speed
```

Rewrites the tables of `docs/speed.md` from the data under `benchmarks/results/`. What stands
between a `begin` and an `end` mark belongs to this command; the prose around it is written by hand.
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

# The name of a result, which is that of its marks on the page, and how its table is made.
TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "blocks": blocks.table,
    "throughput": throughput.table,
    "generation": generation.table,
    "toeplitz": lambda record: toeplitz.table(record["points"]).rstrip(),
}


def provenance(record: dict[str, Any]) -> str:
    """What one needs to judge the numbers, or to repeat them."""
    where = record["environment"]
    return (
        f"`{where['command']}`; {where['hardware']}; torch {where['torch']}; "
        f"commit {where['commit']}, {where['date'][:10]}."
    )


def page() -> str:
    """The page as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        record = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        text = replace_between(text, name, f"{table(record)}\n\n{provenance(record)}")
    return text


if __name__ == "__main__":
    atomic_write(PAGE, page().encode())
