r"""The command line of an experiment: settings, processes, a new or resumed run, training, report.

# The command

Settings and data are checked before the run's folder is created. An error of the user exits with
status 2.
"""

import argparse
import dataclasses
import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning_fabric import Fabric
from torch import nn

from experiments.engine.checkpoint import BEST, PREVIOUS, find_checkpoint, restore_previous
from experiments.engine.devices import (
    check_compiler,
    exit_process,
    make_fabric,
    on_rank_zero,
    pick_device,
    pick_precision,
    rank_zero_first,
)
from experiments.engine.experiment import Experiment, Task, Training
from experiments.engine.launch import KEPT_ON_RESUME, Launch
from experiments.engine.loop import train
from experiments.engine.optimiser import make_optimizer
from experiments.engine.order import BatchSplit
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
from experiments.engine.settings.flags import Parser, add_flags, given_values
from experiments.engine.settings.types import check_values, from_dict, to_dict
from experiments.engine.state import State
from experiments.engine.tracking import tracking


def run(experiment: Experiment, arguments: Sequence[str] | None = None) -> int:
    r"""Trains, or runs a further command of an experiment, and returns the exit status.

        status = run(EXPERIMENT, ["--steps", "100"])

    * `arguments` are flags, perhaps after the name of a further command; by default those of this
      process
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in experiment.commands:
        return run_command(experiment.commands[arguments[0]], arguments[1:])
    return run_command(lambda rest: train_command(experiment, rest), arguments)


def run_as_main(experiment: Experiment) -> NoReturn:
    """Runs the command of this process and exits, as `python -m experiments.NAME` does."""
    try:
        status = run(experiment)
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 0
    except Exception:
        # A bug. With several processes, the interpreter's own exit could wait forever.
        traceback.print_exc()
        status = 1
    exit_process(status)


def train_command(experiment: Experiment, arguments: Sequence[str]) -> None:
    r"""Trains: reads the settings, starts the processes, prepares the run, trains and reports.

    ## Training from the command line

    Raises `UserError` if the settings, the data or the run's folder cannot be used, if a loss or an
    evaluation is not finite, or if another process has died; and `OSError` if a file cannot be
    written.
    """
    with report_once(), user_errors():
        settings, training, launch = read_flags(experiment, arguments)
        device = pick_device(launch.device)
        precision = pick_precision(launch.precision, device)
        if launch.compile:
            check_compiler(device)
        fabric = make_fabric(device, launch.devices, launch.strategy, precision)
        launch = dataclasses.replace(launch, precision=precision, devices=fabric.world_size)
        BatchSplit(world=fabric.world_size, accumulate=launch.accumulate).rows(training.batch)

    fabric.launch()
    with user_errors():
        prepared = prepare_run(experiment, settings, training, launch, fabric, arguments)
    task, state, folder = prepared.task, prepared.state, prepared.folder
    if fabric.is_global_zero:
        processes = f", {fabric.world_size} processes" if fabric.world_size > 1 else ""
        print(
            f"{getattr(settings, experiment.variant)}, "
            f"{sum(p.numel() for p in task.model.parameters()):,} parameters, on "
            f"{task.about}; {precision}, {hardware(fabric.device)}{processes}",
            file=sys.stderr,
        )
    labml = launch.labml and fabric.is_global_zero
    with tracking(labml, experiment.name, folder, to_dict(settings, training)) as track:
        optimizer: Any = fabric.setup_optimizers(state.optimizer)
        try:
            train(
                *(task, training, state, prepared.model, optimizer, fabric, launch.accumulate),
                *(folder, track),
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(str(folder)) from None
    on_rank_zero(fabric, lambda: experiment.finish(folder, prepared.record, state, fabric))


@dataclass(frozen=True)
class PreparedRun:
    r"""A run whose folder exists and whose state is restored, ready to train.

        prepared = prepare_run(EXPERIMENT, settings, training, launch, fabric, arguments)
        prepared.state.step

    * `folder` is the run's folder
    * `record` is the content of its `settings.json`
    * `task` is the task
    * `model` is Fabric's wrapper around its model
    * `state` is the state to start from
    """

    folder: Path
    record: dict[str, Any]
    task: Task
    model: nn.Module
    state: State


def prepare_run(
    experiment: Experiment,
    settings: Any,
    training: Training,
    launch: Launch,
    fabric: Fabric,
    arguments: Sequence[str],
) -> PreparedRun:
    r"""Builds the task, and creates the folder of a new run or restores an earlier one.

    ## A new or resumed run

    All processes call this. Process 0 alone chooses the folder, checks checkpoints and disk space,
    and writes.

    * `arguments` are those of the command line, for the record

    Raises `ValueError` or `OSError` if the folder exists or cannot be created, the disk is too
    small, a checkpoint is damaged or of another run, or `build` refuses the settings or data.
    """
    folder = on_rank_zero(
        fabric, lambda: launch.resume or new_folder(launch, experiment.label(settings))
    )
    task = rank_zero_first(fabric, lambda: experiment.build(settings, training, launch, fabric))
    compiled: Any = torch.compile(task.model) if launch.compile else task.model
    model = fabric.setup_module(compiled)
    # With the strategy fsdp, the weights are sharded by now; the optimizer must hold the shards.
    optimizer = make_optimizer(
        task.model,
        lr=training.lr,
        betas=(training.beta1, training.beta2),
        eps=training.eps,
        weight_decay=training.weight_decay,
    )
    identity = {"settings": to_dict(settings, training), "data": task.data}
    state = State(identity, task.model, optimizer)

    def prepare() -> Path | None:
        found = None if launch.resume is None else find_checkpoint(folder, state.check)
        if found is not None and found[1]["best"] is not None:
            # The report needs the best checkpoint; check it before training.
            state.check(folder / BEST)
        check_space(folder, task.model, averaged=training.ema > 0)
        if launch.resume is None:
            typed = shlex.join([*experiment.program.split(), *arguments])
            record = {
                **identity,
                "launch": launch.kept_on_resume(),
                "environment": environment(fabric.device, typed),
            }
            make_folder(folder, record)
        # A run that was killed before its first checkpoint starts from step 0.
        if found is None:
            return None
        if found[0].name == PREVIOUS:
            restore_previous(folder)
        return found[0]

    checkpoint = on_rank_zero(fabric, prepare)
    if checkpoint is not None:
        state.load(checkpoint)
    return PreparedRun(folder, read_record(folder), task, model, state)


def read_flags(experiment: Experiment, arguments: Sequence[str]) -> tuple[Any, Training, Launch]:
    r"""The settings, the training settings and the launch of a run.

    ## Priority of values

    A value comes from the command line, else from the file of `--config`, else from the defaults of
    the variant. A resumed run keeps the settings in its `settings.json`; a flag may repeat them but
    not change them.

        settings, training, launch = read_flags(EXPERIMENT, ["--layer", "amlp", "--lr", "1e-3"])

    Raises `ValueError` if a value has the wrong type or is out of range, if values contradict each
    other, or if `--config` or `--resume` cannot be read or names other settings. An unknown flag
    exits with status 2.
    """
    # The variant selects the other defaults, also in the help, so it is read first.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in (experiment.variant, "config"):
        first.add_argument("--" + name.replace("_", "-"), dest=name, nargs="?")
    early = vars(first.parse_known_args(arguments)[0])
    classes = (*experiment.classes, Launch)
    given = read_config(Path(early["config"]), *classes) if early["config"] else {}
    variant = early[experiment.variant] or given.get(experiment.variant)
    fallback = next(iter(experiment.defaults.values()))
    defaults = experiment.defaults.get(str(variant), fallback)

    also = "".join(f"\n{experiment.program} {name} --help" for name in experiment.commands)
    about = f"{experiment.about}{' Further commands:' if also else ''}{also}"
    parser = Parser(experiment.program, "[--flag value ...]", about)
    for values in defaults:
        add_flags(parser, type(values), values)
    add_flags(parser, Launch)
    namespace = parser.parse_args(arguments)
    for cls in classes:
        given.update(given_values(cls, namespace))

    launch = Launch(**_fields_of(Launch, given))
    if launch.resume is None:
        settings, training = (
            dataclasses.replace(values, **_fields_of(type(values), given)) for values in defaults
        )
        return settings, training, launch
    settings, training, kept = _read_settings(experiment, launch.resume)
    present = to_dict(settings, training)
    for name, value in given.items():
        if name in present and value != present[name]:
            raise ValueError(
                f"{name} must stay {present[name]!r} when {launch.resume} is resumed, got {value!r}"
            )
    return settings, training, Launch(**{**kept, **_fields_of(Launch, given)})


def _fields_of(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in values.items() if name in names}


def _read_settings(experiment: Experiment, folder: Path) -> tuple[Any, Training, dict[str, Any]]:
    """The settings of an earlier run, and the fields of `Launch` that it keeps."""
    record = read_record(folder)
    try:
        settings, training = from_dict(experiment.classes, record["settings"])
        kept = {name: v for name, v in record["launch"].items() if name in KEPT_ON_RESUME}
        kept = check_values(Launch, kept)
        Launch(**kept)
    except ValueError as e:
        raise ValueError(f"{e} in {folder / 'settings.json'}") from e
    return settings, training, kept
