r"""
# launch
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.engine.settings.errors import check_positive

# The fields of `Launch` that are written to it.
KEPT_ON_RESUME = ("devices", "strategy", "precision", "accumulate", "compile", "checkpoint_layers")


@dataclass(frozen=True, kw_only=True)
class Launch:
    r"""
    ## Launch

    Where and how a run goes. Its result depends on that by rounding only, unless training draws
    something, as dropout and augmentation do: each process and each micro-batch draws its own.

    * `run` is the folder to write to, a new one; by default one under runs, named by time and
      settings
    * `resume` is the folder of an earlier run to go on with
    * `config` is a YAML file with values for these flags; what the command line says wins
    * `device` is cpu or cuda; by default the GPU if there is one
    * `devices` is the number of processes, on GPUs one for each; torchrun sets it itself
    * `strategy` is ddp, with the whole model in each process, or fsdp, with a part in each
    * `precision` is float32, bf16, or auto: bf16 where the hardware has it
    * `accumulate` is the number of micro-batches that make up a step
    * `compile` runs the model through torch.compile
    * `checkpoint_layers` computes each layer a second time instead of keeping what is inside it
    * `workers` is the number of processes that decode images, for each that trains
    * `data` is the folder of data
    * `labml` records the run with labml too
    """

    run: Path | None = None
    resume: Path | None = None
    config: Path | None = None
    device: str | None = None
    devices: int = 1
    strategy: str = "ddp"
    precision: str = "auto"
    accumulate: int = 1
    compile: bool = False
    checkpoint_layers: bool = False
    workers: int = 2
    data: Path = Path("data")
    labml: bool = True

    def __post_init__(self) -> None:
        check_positive(self, ("devices", "accumulate"))
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")
        if self.run is not None and self.resume is not None:
            raise ValueError(f"run must be left out beside resume, got {self.run}")

    def kept_on_resume(self) -> dict[str, Any]:
        """What a resumed run does again unless it is told otherwise."""
        return {name: getattr(self, name) for name in KEPT_ON_RESUME}
