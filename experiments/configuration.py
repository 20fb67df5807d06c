from pathlib import Path
from typing import Any


def read_config(path: Path) -> dict[str, Any]:
    return {}
