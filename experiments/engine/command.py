r"""
# The command of an experiment

What each experiment's command does: read the flags, find what is wrong before anything is written,
start the processes, make or resume a run, train, report.
"""

import argparse
import dataclasses
import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning_fabric import Fabric
from torch import nn

from experiments.engine.checkpoint import BEST, PREVIOUS, restore_previous, resumable
from experiments.engine.devices import (
    BatchSplit,
    check_compiler,
    exit_process,
    make_fabric,
    on_rank_zero,
    pick_device,
    pick_precision,
    rank_zero_first,
)
from experiments.engine.experiment import Experiment, Task
from experiments.engine.launch import KEPT_ON_RESUME, Launch
from experiments.engine.loop import train
from experiments.engine.optimiser import make_optimizer
from experiments.engine.run_folder import (
    check_space,
    environment,
    hardware,
    make_folder,
    new_folder,
    read_record,
)
from experiments.engine.settings.config_file import read_config
from experiments.engine.settings.errors import report_once, run_command, user_errors
from experiments.engine.settings.flags import (
    Parser,
    add_flags,
    first_difference,
    from_dict,
    given_values,
)
from experiments.engine.state import State
from experiments.engine.tracking import tracking


def run(experiment: Experiment, arguments: Sequence[str] | None = None) -> int:
    """Runs one of its commands, training if none is named. Returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in experiment.commands:
        return run_command(experiment.commands[arguments[0]], arguments[1:])
    return run_command(lambda rest: train_command(experiment, rest), arguments)


def run_as_main(experiment: Experiment) -> NoReturn:
    """What `python -m` runs."""
    try:
        status = run(experiment)
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 0
    except Exception:
        # Our own mistake. One of several processes must not go the interpreter's way out with it.
        traceback.print_exc()
        status = 1
    exit_process(status)


def train_command(experiment: Experiment, arguments: Sequence[str]) -> None:
    r"""
    ## The command that trains

    Everything that can be wrong is found before the run's folder is made.

    Raises `UserError` for it.
    """
    with report_once(), user_errors():
        launch, written = read_flags(experiment, arguments)
        settings, training = from_dict(experiment.classes, written)
        device = pick_device(launch.device)
        precision = pick_precision(launch.precision, device)
        if launch.compile:
            check_compiler(device)
        fabric = make_fabric(device, launch.devices, launch.strategy, precision)
        launch = dataclasses.replace(launch, precision=precision, devices=fabric.world_size)
        BatchSplit(world=fabric.world_size, accumulate=launch.accumulate).rows(training.batch)

    fabric.launch()
    with user_errors():
        begun = prepare_run(experiment, launch, written, fabric, arguments)
    task, state, folder = begun.task, begun.state, begun.folder
    if fabric.is_global_zero:
        processes = f", {fabric.world_size} processes" if fabric.world_size > 1 else ""
        print(
            f"{getattr(settings, experiment.variant)}, "
            f"{sum(p.numel() for p in task.model.parameters()):,} parameters, on "
            f"{task.about}; {precision}, {hardware(fabric.device)}{processes}",
            file=sys.stderr,
        )
    labml = launch.labml and fabric.is_global_zero
    with tracking(labml, experiment.name, folder, written) as track:
        optimizer: Any = fabric.setup_optimizers(state.optimizer)
        try:
            train(
                *(task, training, state, begun.model, optimizer, fabric, launch.accumulate),
                *(folder, track),
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(str(folder)) from None
    on_rank_zero(fabric, lambda: experiment.finish(folder, begun.record, state, fabric))


@dataclass(frozen=True)
class PreparedRun:
    r"""
    ## A run that has begun

    * `folder` is the run's
    * `record` is the content of its `settings.json`
    * `task` is what is trained
    * `model` is its model in Fabric's coat
    * `state` is where it starts
    """

    folder: Path
    record: dict[str, Any]
    task: Task
    model: nn.Module
    state: State


def prepare_run(
    experiment: Experiment,
    launch: Launch,
    written: dict[str, Any],
    fabric: Fabric,
    arguments: Sequence[str],
) -> PreparedRun:
    r"""
    ## Making a run or going on with one

    * `written` are the settings by name
    * `arguments` are those of the command, for the record

    Raises `ValueError` or `OSError` for what cannot be used.
    """
    settings, training = from_dict(experiment.classes, written)
    label = experiment.label(settings)
    folder = on_rank_zero(fabric, lambda: launch.resume or new_folder(launch, label))
    task = rank_zero_first(fabric, lambda: experiment.build(settings, training, launch, fabric))
    itself: Any = torch.compile(task.model) if launch.compile else task.model
    model = fabric.setup_module(itself)
    # Made only now: with the strategy fsdp the weights have just been cut in parts.
    optimizer = make_optimizer(
        task.model,
        lr=training.lr,
        betas=(training.beta1, training.beta2),
        eps=training.eps,
        weight_decay=training.weight_decay,
    )
    state = State({"settings": written, "data": task.data}, task.model, optimizer)
    # A run that was killed before its first checkpoint starts again.
    start = None
    if launch.resume is not None:
        start = on_rank_zero(fabric, lambda: resumable(folder, state.check))
    if start is not None:
        state.load(start)
        # The report at the end needs the best checkpoint: better to miss it now.
        if state.best is not None:
            on_rank_zero(fabric, lambda: bool(state.check(folder / BEST)))
    on_rank_zero(fabric, lambda: check_space(folder, task.model, averaged=training.ema > 0))
    typed = shlex.join([*experiment.program.split(), *arguments])
    new = {
        "settings": written,
        "data": task.data,
        "launch": launch.kept_on_resume(),
        "environment": environment(fabric.device, typed),
    }
    if launch.resume is None:
        on_rank_zero(fabric, lambda: make_folder(folder, new))
    elif start == folder / PREVIOUS:
        on_rank_zero(fabric, lambda: restore_previous(folder))
    return PreparedRun(folder, read_record(folder), task, model, state)


def read_flags(experiment: Experiment, arguments: Sequence[str]) -> tuple[Launch, dict[str, Any]]:
    r"""
    ## Flags, file, defaults

    A value comes from the command line, or else from the file of `--config`, or else from the
    defaults of the variant. A resumed run has its settings already: what is given must agree.

    Returns the launch, and the settings by name.

    Raises `ValueError` for values that disagree.
    """
    # The variant decides the other defaults, those in the help too; so it is looked up first.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in (experiment.variant, "config"):
        first.add_argument("--" + name.replace("_", "-"), dest=name, nargs="?")
    early = vars(first.parse_known_args(arguments)[0])
    file, known = early["config"], (*experiment.classes, Launch)
    filed = as_flags(read_config(Path(file), *known)) if file else []
    variant = vars(first.parse_known_args([*filed, *arguments])[0])[experiment.variant]
    fallback = next(iter(experiment.defaults.values()))
    defaults = experiment.defaults.get(variant, fallback)

    also = "".join(f"\n{experiment.program} {name} --help" for name in experiment.commands)
    about = f"{experiment.about}{' Further commands:' if also else ''}{also}"
    parser = Parser(experiment.program, "[--flag value ...]", about)
    for values in defaults:
        add_flags(parser, type(values), values)
    add_flags(parser, Launch)
    namespace = parser.parse_args([*filed, *arguments])
    launch = Launch(**given_values(Launch, namespace))
    asked = {
        name: v for cls in experiment.classes for name, v in given_values(cls, namespace).items()
    }
    if launch.resume is None:
        made = [
            dataclasses.replace(values, **given_values(type(values), namespace))
            for values in defaults
        ]
        return launch, {name: v for values in made for name, v in asdict(values).items()}
    record = read_record(launch.resume)
    written = record["settings"]
    # Somebody may have edited them.
    from_dict(experiment.classes, written)
    if difference := first_difference(asked, written):
        name, value, old = difference
        raise ValueError(f"{name} must stay {old!r} when {launch.resume} is resumed, got {value!r}")
    again = {name: v for name, v in record["launch"].items() if name in KEPT_ON_RESUME}
    return Launch(**{**again, **given_values(Launch, namespace)}), written


def as_flags(values: dict[str, Any]) -> list[str]:
    """What one would type for the values of a file; nothing for `None`, as nobody can type it."""
    flags = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            flags.append(f"--{flag}={value}")
    return flags
