r"""
# Folders of models

Our own form is a folder with two files: `model.safetensors` has the numbers, `config.json` says how
the model is built that they belong to. A folder on the Hugging Face hub looks the same.

The config is the tree of layers as a plain dict. Each layer says its class and the arguments that
its constructor takes; a table of classes, and nothing else, turns that into a model again.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labml_gmlp.blocks.convolution import ConvolutionProjection
from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gates import AdditiveGate, LinearGate, MultiplicativeGate
from labml_gmlp.blocks.gmlp import GMLPBlock, SpatialGatingUnit, SpatialProjection
from labml_gmlp.blocks.mixer import MixerBlock
from labml_gmlp.blocks.stochastic_depth import StochasticDepth
from labml_gmlp.blocks.tiny_attention import TinyAttention
from labml_gmlp.blocks.toeplitz import DecayedToeplitzProjection, ToeplitzProjection
from labml_gmlp.blocks.token_shift import TokenShift
from labml_gmlp.blocks.transformer import TransformerLayer
from labml_gmlp.blocks.windowed import WindowedProjection
from labml_gmlp.models.language import LanguageModel
from labml_gmlp.models.vision import ImageClassifier
from labml_gmlp.storage import atomic_write
from labml_gmlp.weights import from_state
from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.formats.arrays import short
from labml_gmlp.weights.formats.files import read, write
from labml_gmlp.weights.hub import finder, read_json
from labml_gmlp.weights.preprocessing import Preprocessing, preprocessing_of

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = "labml_gmlp"
VERSION = 1


def save_pretrained(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    r"""
    ## Saving

    * `model` is a `LanguageModel` or an `ImageClassifier` of layers of this library
    * `folder` is made if it is not there; each of its two files is replaced as a whole

    Raises `WeightsError` for a model with a layer or an activation that the config has no word for,
    `OSError` if the folder cannot be written.
    """
    config = description_of(model)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / WEIGHTS, model.state_dict(), {"system": FORMAT})
    atomic_write(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def from_pretrained(
    name_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> nn.Module:
    r"""
    ## Loading

    * `name_or_folder` is a folder, or else the name of a model on the hub, `owner/name`: one of
      ours, or one of timm such as `timm/gmlp_s16_224.ra3_in1k`
    * `revision` is a branch, tag or commit on the hub
    * `cache_dir` and `local_files_only` are those of `huggingface_hub`, which is asked for a name

    Returns the model in evaluation, on the CPU and in the types of the file.

    Raises `WeightsError` for a name that is neither, for a config that describes no model, and
    where names or shapes of weights and config differ, with all of them.
    """
    found = finder(name_or_folder, revision, cache_dir, local_files_only)
    described = read_json(found(CONFIG))
    # timm's config names an architecture of timm; what it is shows in the weights, as in any file.
    if isinstance(described, dict) and "architecture" in described:
        return from_state(read(found(WEIGHTS))).eval()
    # On the meta device the config can ask for any size, and no memory is taken until the file has
    # shown that it holds so many numbers.
    with torch.device("meta"):
        model = model_from(described)
    weights = found(WEIGHTS)
    state = read(weights)
    _check_names(weights, model, state)
    model.load_state_dict(state, assign=True)
    return model.eval()


def preprocessing_from(
    name_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Preprocessing:
    r"""
    ## What belongs to the weights of images

    * the arguments are those of `from_pretrained`, for a model of timm, or one that the experiment
      on ImageNet has saved

    Returns [how images are prepared](preprocessing.py) for it.

    Raises `WeightsError` as `from_pretrained` does, and for a config that does not say so, such as
    that of `save_pretrained`.
    """
    found = finder(name_or_folder, revision, cache_dir, local_files_only)
    return preprocessing_of(read_json(found(CONFIG)))


def _check_names(path: Path, model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    wanted = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in state.items()}
    wrong = [f"no {name}" for name in wanted if name not in found]
    wrong += [f"{short(name)} left over" for name in found if name not in wanted]
    wrong += [
        f"{name} of {found[name]} instead of {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    wrong += [
        f"{short(name)} in {tensor.dtype}"
        for name, tensor in state.items()
        if name in wanted and not tensor.is_floating_point()
    ]
    if wrong:
        raise WeightsError(f"{path} must have the weights of its config, got {', '.join(wrong)}")


# ## The config
#
# A layer becomes a dict of its class and its arguments, an activation a dict of its name, and pairs
# become lists, as JSON knows no other.
def description_of(model: nn.Module) -> dict[str, Any]:
    r"""
    * `model` is as in `save_pretrained`

    Returns the config, of nothing but dicts, lists, texts, numbers and `None`.

    Raises `WeightsError` for a layer or an activation that it has no word for.
    """
    if not isinstance(model, (LanguageModel, ImageClassifier)):
        raise WeightsError(
            f"model must be a LanguageModel or an ImageClassifier, got a {type(model).__name__}"
        )
    return {"format": FORMAT, "version": VERSION, "model": _described(model)}


def model_from(config: Any) -> nn.Module:
    r"""
    * `config` is what `description_of` returned, perhaps by way of JSON

    Returns a new model with fresh weights.

    Raises `WeightsError` for a config of another format or version, and for one with a class, an
    argument or a value that the table does not have.
    """
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise WeightsError(f"config must have the format {FORMAT!r}, got another one or none")
    if config.get("version") != VERSION:
        raise WeightsError(
            f"config must have the version {VERSION}, got {short(config.get('version'))}"
        )
    model = _rebuilt(config.get("model"), "model")
    if not isinstance(model, (LanguageModel, ImageClassifier)):
        raise WeightsError(
            f"config must describe a LanguageModel or an ImageClassifier, got a "
            f"{type(model).__name__}"
        )
    return model


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "gelu": nn.functional.gelu,
    "relu": nn.functional.relu,
    "silu": nn.functional.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def _described(value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (tuple, list, nn.ModuleList)):
        return [_described(item) for item in value]
    for name, function in _FUNCTIONS.items():
        if value is function:
            return {"function": name}
    # A subclass may compute something else, so it is not taken for its parent.
    layer = _LAYERS.get(type(value).__name__)
    if layer is None or type(value) is not layer.kind:
        named = getattr(value, "__name__", type(value).__name__)
        raise WeightsError(f"model must be made of layers of labml_gmlp, got {named}")
    arguments = {name: _described(get(value)) for name, get in layer.arguments.items()}
    return {"class": type(value).__name__, **arguments}


def _rebuilt(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return tuple(_rebuilt(item, f"{where}[{i}]") for i, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    if "function" in value:
        function = value["function"]
        if len(value) > 1 or not isinstance(function, str) or function not in _FUNCTIONS:
            raise WeightsError(
                f"{where} must be one of {sorted(_FUNCTIONS)}, got {short(function)}"
            )
        return _FUNCTIONS[function]
    kind = value.get("class")
    layer = _LAYERS.get(kind) if isinstance(kind, str) else None
    if layer is None:
        raise WeightsError(f"{where} must have a class of labml_gmlp, got {short(kind)}")
    given = value.keys() - {"class"}
    if given != layer.arguments.keys():
        raise WeightsError(
            f"{where} must have the arguments {sorted(layer.arguments)}, "
            f"got {short(sorted(map(str, given)))}"
        )
    arguments = {name: _rebuilt(value[name], f"{where}.{name}") for name in layer.arguments}
    for name, argument in arguments.items():
        _check_kind(f"{where}.{name}", name, argument)
    try:
        return (layer.build or layer.kind)(**arguments)
    except WeightsError:
        raise
    except (ValueError, TypeError, AttributeError, RuntimeError, OverflowError) as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise WeightsError(f"{where} must be arguments of {kind}: {reason}") from e


# torch takes a text for a number and any object for an activation, and fails when they are used.
_SWITCHES = {"causal", "checkpoint_layers", "in_bias", "inplace", "out_bias", "tied"}
_NUMBERS = {"norm_eps", "p", "survival"}
_LAYERS_IN_LAYERS = {
    *("activation", "attention", "dropout", "encoder", "projection", "sgu", "token_shift"),
}


def _check_kind(where: str, name: str, value: Any) -> None:
    if name in _SWITCHES and type(value) is not bool:
        raise WeightsError(f"{where} must be true or false, got {short(value)}")
    if name in _NUMBERS and type(value) not in (int, float):
        raise WeightsError(f"{where} must be a number, got {short(value)}")
    if name in _LAYERS_IN_LAYERS and value is not None and not callable(value):
        raise WeightsError(f"{where} must be a layer or null, got {short(value)}")


@dataclass(frozen=True)
class _Layer:
    r"""A class, where each argument of its constructor stands in an object, and how it is built."""

    kind: type[nn.Module]
    arguments: Mapping[str, Callable[[Any], Any]]
    build: Callable[..., nn.Module] | None = None


def _same(*names: str, **places: str) -> dict[str, Callable[[Any], Any]]:
    """Arguments kept under their own name, and those that stand elsewhere."""
    return {name: attrgetter(place) for name, place in {**{n: n for n in names}, **places}.items()}


def _encoder(layers: Any, checkpoint_layers: Any, norm_eps: Any) -> nn.Module:
    if not isinstance(layers, tuple) or type(checkpoint_layers) is not bool:
        raise ValueError("layers must be a list and checkpoint_layers true or false")
    one_by_one = iter(layers)
    return Encoder(
        lambda: next(one_by_one),
        len(layers),
        checkpoint_layers=checkpoint_layers,
        norm_eps=norm_eps,
    )


def _no_dropout(layer: Any) -> Any:
    # These two put an identity where they are given nothing.
    return None if type(layer.dropout) is nn.Identity else layer.dropout


def _sgu(d_ffn: Any, projection: Any, activation: Any, norm_eps: Any) -> nn.Module:
    return SpatialGatingUnit(d_ffn, projection=projection, activation=activation, norm_eps=norm_eps)


_GATE = _same("d_ffn", "projection", norm_eps="norm.eps")
_PROJECTION = _same("seq_len", "causal", "n_heads")
_HALVES = _same("activation", norm_eps="norm.eps", d_model="size")
_LAYERS: dict[str, _Layer] = {
    layer.kind.__name__: layer
    for layer in (
        _Layer(
            LanguageModel,
            _same("n_tokens", "encoder", "n_positions") | {"tied": lambda m: m.head is None},
        ),
        _Layer(
            ImageClassifier,
            _same(
                "encoder",
                "image_size",
                "n_channels",
                n_classes="head.out_features",
                patch_size="patches.kernel_size",
            ),
        ),
        _Layer(Encoder, _same("layers", "checkpoint_layers", norm_eps="norm.eps"), _encoder),
        _Layer(
            GMLPBlock,
            _same("sgu", "attention", "token_shift", "dropout", d_ffn="proj_in.out_features")
            | _HALVES,
        ),
        _Layer(
            MixerBlock,
            _same("seq_len", d_tokens="token_in.out_features", d_channels="proj_in.out_features")
            | _HALVES
            | {"dropout": _no_dropout},
        ),
        _Layer(
            TransformerLayer,
            _same("n_heads", "causal", d_ffn="proj_in.out_features")
            | _HALVES
            | {"dropout": _no_dropout},
        ),
        _Layer(SpatialGatingUnit, _GATE | _same("activation"), _sgu),
        _Layer(LinearGate, _GATE),
        _Layer(AdditiveGate, _GATE),
        _Layer(MultiplicativeGate, _GATE),
        _Layer(SpatialProjection, _PROJECTION),
        _Layer(ToeplitzProjection, _PROJECTION | _same("fft_from")),
        _Layer(DecayedToeplitzProjection, _same("seq_len", "n_heads", "fft_from")),
        _Layer(ConvolutionProjection, _same("n_channels", "kernel_size", "causal")),
        _Layer(WindowedProjection, _same("window", "causal", "n_heads")),
        _Layer(
            TinyAttention,
            _same("d_model", "d_attn", "causal", d_out="attention_out.out_features")
            | {
                "in_bias": lambda a: a.attention_in.bias is not None,
                "out_bias": lambda a: a.attention_out.bias is not None,
            },
        ),
        _Layer(TokenShift, _same("shifts")),
        _Layer(StochasticDepth, _same("survival")),
        # What of torch stands in our layers: dropouts and activations.
        _Layer(nn.Dropout, _same("p", "inplace")),
        _Layer(nn.Identity, {}),
        _Layer(nn.GELU, _same("approximate")),
        _Layer(nn.ReLU, _same("inplace")),
        _Layer(nn.SiLU, _same("inplace")),
        _Layer(nn.Sigmoid, {}),
        _Layer(nn.Tanh, {}),
    )
}
