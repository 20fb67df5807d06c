r"""How and where a run executes: folder, devices, precision.

# Launch settings
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.engine.settings.errors import check_positive
from experiments.engine.settings.types import check_choices

# The fields of `Launch` that a resumed run takes from `settings.json`.
KEPT_ON_RESUME = ("devices", "strategy", "precision", "accumulate", "compile", "checkpoint_layers")


@dataclass(frozen=True, kw_only=True)
class Launch:
    r"""How and where a run executes; a resumed run may change it.

    It changes losses by rounding only, except with dropout or augmentation on the device: each
    process and each micro-batch draws its own random numbers.

        >>> Launch(devices=2, accumulate=4).strategy
        'ddp'

    Raises `ValueError` if a count is out of range, a name is unknown, or both `run` and `resume`
    are given.
    """

    # New folder for the run; by default one in runs, named by time and settings.
    run: Path | None = None
    # Folder of an earlier run to resume.
    resume: Path | None = None
    # YAML file of settings; flags override it.
    config: Path | None = None
    # Device, cpu or cuda; by default the GPU if there is one.
    device: str | None = None
    # Number of processes, one per GPU; torchrun sets it itself.
    devices: int = 1
    # Data parallelism: ddp replicates the model in each process, fsdp shards it over processes.
    strategy: Literal["ddp", "fsdp"] = "ddp"
    # Precision of the computation; auto is bf16 where the hardware multiplies it, else float32.
    precision: Literal["auto", "float32", "bf16"] = "auto"
    # Micro-batches whose gradients are accumulated in a step.
    accumulate: int = 1
    # Compile the model with torch.compile.
    compile: bool = False
    # Recompute each layer in the backward pass instead of keeping its activations.
    checkpoint_layers: bool = False
    # Processes that decode images, for each process that trains.
    workers: int = 2
    # Folder of the data, and of downloads.
    data: Path = Path("data")
    # Also record the run with labml.
    labml: bool = True

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, ("devices", "accumulate"))
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")
        if self.run is not None and self.resume is not None:
            raise ValueError(f"run must not be given with resume, got {self.run}")

    def kept_on_resume(self) -> dict[str, Any]:
        """The fields that a resumed run takes over unless its flags say otherwise."""
        return {name: getattr(self, name) for name in KEPT_ON_RESUME}
