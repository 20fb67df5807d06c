r"""Layer trees: a model as nested dicts of classes and constructor arguments.

# Layer trees

A layer tree describes each layer by itself, so it can describe a model whose layers differ. It is
what [`save_pretrained`](pretrained.py) writes. A [configuration](translate/config.py) is another
description: one flat dict that all layers share, for converting weights between systems.

A layer becomes a dict of its class and the arguments of its constructor, an activation function a
dict of its name, and a tuple a list. Only the classes of one table can be rebuilt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import nn

from labml_gmlp.blocks.convolution import ConvolutionProjection
from labml_gmlp.blocks.encoder import Encoder
from labml_gmlp.blocks.gates import AdditiveGate, LinearGate, MultiplicativeGate
from labml_gmlp.blocks.gmlp import GMLPBlock, SpatialGatingUnit, SpatialProjection
from labml_gmlp.blocks.mixer import MixerBlock
from labml_gmlp.blocks.multi_head import MultiHeadSpatialProjection
from labml_gmlp.blocks.stochastic_depth import StochasticDepth
from labml_gmlp.blocks.tiny_attention import TinyAttention
from labml_gmlp.blocks.toeplitz import DecayedToeplitzProjection, ToeplitzProjection
from labml_gmlp.blocks.token_shift import TokenShift
from labml_gmlp.blocks.transformer import TransformerLayer
from labml_gmlp.blocks.windowed import WindowedProjection
from labml_gmlp.models.amlp import AMLPBlock, AMLPGatingUnit
from labml_gmlp.models.language import LanguageModel
from labml_gmlp.models.vision import ImageClassifier
from labml_gmlp.weights.errors import WeightsError, short_repr
from labml_gmlp.weights.translate.activations import FUNCTIONS, function_name


def layer_tree(model: nn.Module) -> dict[str, Any]:
    r"""Returns the layer tree of a model: nested dicts, lists, strings, numbers and `None`.

    ## Model to layer tree

    * `model` is a `LanguageModel` or an `ImageClassifier` made of layers of this library

    Raises `WeightsError` for any other model, and for a layer or an activation outside the table.
    """
    if not isinstance(model, (LanguageModel, ImageClassifier)):
        raise WeightsError(
            f"model must be a LanguageModel or an ImageClassifier, got a {type(model).__name__}"
        )
    tree: dict[str, Any] = _describe(model)
    return tree


def model_from_layer_tree(tree: Any) -> nn.Module:
    r"""Returns a new model with random weights that has this layer tree.

    ## Layer tree to model

    * `tree` is what `layer_tree` returned, perhaps read from JSON

    Raises `WeightsError` for a class or a function outside the table, for missing or unknown
    arguments, for a value that a constructor rejects, and for a tree of another kind of model.
    """
    model = _rebuild(tree, "model")
    if not isinstance(model, (LanguageModel, ImageClassifier)):
        raise WeightsError(
            f"model must be a LanguageModel or an ImageClassifier, got a {type(model).__name__}"
        )
    return model


def _describe(value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (tuple, list, nn.ModuleList)):
        return [_describe(item) for item in value]
    function = function_name(value)
    if function is not None:
        return {"function": function}
    # A subclass may compute something else, so it does not count as its parent.
    entry = _LAYER_TYPES.get(type(value).__name__)
    if entry is None or type(value) is not entry.type:
        name = getattr(value, "__name__", type(value).__name__)
        raise WeightsError(f"model must be made of layers of labml_gmlp, got {name}")
    arguments = {name: _describe(get(value)) for name, get in entry.arguments.items()}
    return {"class": type(value).__name__, **arguments}


def _rebuild(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return tuple(_rebuild(item, f"{where}[{i}]") for i, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    if "function" in value:
        function = value["function"]
        if len(value) > 1 or not isinstance(function, str) or function not in FUNCTIONS:
            raise WeightsError(
                f"{where} must be one of {sorted(FUNCTIONS)}, got {short_repr(function)}"
            )
        return FUNCTIONS[function]
    name = value.get("class")
    entry = _LAYER_TYPES.get(name) if isinstance(name, str) else None
    if entry is None:
        raise WeightsError(f"{where} must be of a class of labml_gmlp, got {short_repr(name)}")
    given = value.keys() - {"class"}
    if given != entry.arguments.keys():
        raise WeightsError(
            f"{where} must have the arguments {sorted(entry.arguments)}, "
            f"got {short_repr(sorted(map(str, given)))}"
        )
    arguments = {name: _rebuild(value[name], f"{where}.{name}") for name in entry.arguments}
    for argument, content in arguments.items():
        _check_type(f"{where}.{argument}", argument, content)
    try:
        return (entry.build or entry.type)(**arguments)
    except WeightsError:
        raise
    except (ValueError, TypeError, AttributeError, RuntimeError, OverflowError) as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise WeightsError(f"{where} must have valid arguments of {name}: {reason}") from e


# torch accepts a string as a number and any object as an activation, and fails at the first call.
_BOOLEANS = {"causal", "checkpoint_layers", "in_bias", "inplace", "out_bias", "tied"}
_NUMBERS = {"norm_eps", "p", "survival"}
_CALLABLES = {
    *("activation", "attention", "dropout", "encoder", "projection", "sgu", "token_shift"),
}


def _check_type(where: str, name: str, value: Any) -> None:
    if name in _BOOLEANS and type(value) is not bool:
        raise WeightsError(f"{where} must be true or false, got {short_repr(value)}")
    if name in _NUMBERS and type(value) not in (int, float):
        raise WeightsError(f"{where} must be a number, got {short_repr(value)}")
    if name in _CALLABLES and value is not None and not callable(value):
        raise WeightsError(f"{where} must be a layer or null, got {short_repr(value)}")


# ## The table of classes
#
# To add a layer, add an entry below.
@dataclass(frozen=True)
class _LayerType:
    r"""A class of layers.

    * `arguments` are the arguments of its constructor, each with a function that reads it off a
      layer
    * `build` makes a layer where the constructor takes other arguments
    """

    type: type[nn.Module]
    arguments: Mapping[str, Callable[[Any], Any]]
    build: Callable[..., nn.Module] | None = None


def _attributes(*names: str, **paths: str) -> dict[str, Callable[[Any], Any]]:
    """Arguments that are attributes of the same name, and those at other paths."""
    return {name: attrgetter(path) for name, path in {**{n: n for n in names}, **paths}.items()}


def _build_encoder(layers: Any, checkpoint_layers: Any, norm_eps: Any) -> nn.Module:
    if not isinstance(layers, tuple) or type(checkpoint_layers) is not bool:
        raise ValueError("layers must be a list and checkpoint_layers true or false")
    iterator = iter(layers)
    return Encoder(
        lambda: next(iterator),
        len(layers),
        checkpoint_layers=checkpoint_layers,
        norm_eps=norm_eps,
    )


# Trees of earlier versions know one class for two of today's. They are still read: an argument that
# only the larger class has decides.
def _build_block(attention: Any, token_shift: Any, **arguments: Any) -> nn.Module:
    if attention is None and token_shift is None:
        return GMLPBlock(**arguments)
    return AMLPBlock(attention=attention, token_shift=token_shift, **arguments)


def _build_unit(activation: Any, **arguments: Any) -> nn.Module:
    if activation is None:
        return SpatialGatingUnit(**arguments)
    return AMLPGatingUnit(activation=activation, **arguments)


def _build_projection(n_heads: Any, **arguments: Any) -> nn.Module:
    if n_heads == 1:
        return SpatialProjection(**arguments)
    return MultiHeadSpatialProjection(n_heads=n_heads, **arguments)


# A constant that a tree needs although the layer has no such attribute.
def _always(value: Any) -> Callable[[Any], Any]:
    return lambda layer: value


def _dropout(layer: Any) -> Any:
    # The layers store an identity for `dropout=None`.
    return None if type(layer.dropout) is nn.Identity else layer.dropout


_GATE = _attributes("d_ffn", "projection", norm_eps="norm.eps")
_PROJECTION = _attributes("seq_len", "causal", "n_heads")
_HALVES = _attributes("activation", norm_eps="norm.eps", d_model="size")
_BLOCK = _attributes("sgu", d_ffn="proj_in.out_features") | _HALVES | {"dropout": _dropout}
_LAYER_TYPES: dict[str, _LayerType] = {
    entry.type.__name__: entry
    for entry in (
        _LayerType(
            LanguageModel,
            _attributes("n_tokens", "encoder", "n_positions") | {"tied": lambda m: m.head is None},
        ),
        _LayerType(
            ImageClassifier,
            _attributes(
                "encoder",
                "image_size",
                "n_channels",
                n_classes="head.out_features",
                patch_size="patches.kernel_size",
            ),
        ),
        _LayerType(
            Encoder, _attributes("layers", "checkpoint_layers", norm_eps="norm.eps"), _build_encoder
        ),
        _LayerType(
            GMLPBlock,
            _BLOCK | {"attention": _always(None), "token_shift": _always(None)},
            _build_block,
        ),
        _LayerType(AMLPBlock, _BLOCK | _attributes("attention", "token_shift")),
        _LayerType(
            MixerBlock,
            _attributes(
                "seq_len", d_tokens="token_in.out_features", d_channels="proj_in.out_features"
            )
            | _HALVES
            | {"dropout": _dropout},
        ),
        _LayerType(
            TransformerLayer,
            _attributes(
                n_heads="attention.n_heads",
                causal="attention.causal",
                d_ffn="proj_in.out_features",
            )
            | _HALVES
            | {"dropout": _dropout},
        ),
        _LayerType(SpatialGatingUnit, _GATE | {"activation": _always(None)}, _build_unit),
        _LayerType(AMLPGatingUnit, _GATE | _attributes("activation")),
        _LayerType(LinearGate, _GATE),
        _LayerType(AdditiveGate, _GATE),
        _LayerType(MultiplicativeGate, _GATE),
        _LayerType(
            SpatialProjection,
            _attributes("seq_len", "causal") | {"n_heads": _always(1)},
            _build_projection,
        ),
        _LayerType(MultiHeadSpatialProjection, _PROJECTION),
        _LayerType(ToeplitzProjection, _PROJECTION | _attributes("fft_from")),
        _LayerType(DecayedToeplitzProjection, _attributes("seq_len", "n_heads", "fft_from")),
        _LayerType(ConvolutionProjection, _attributes("n_channels", "kernel_size", "causal")),
        _LayerType(WindowedProjection, _attributes("window", "causal", "n_heads")),
        _LayerType(
            TinyAttention,
            _attributes("d_model", "d_attn", "causal", d_out="attention_out.out_features")
            | {
                "in_bias": lambda a: a.attention_in.bias is not None,
                "out_bias": lambda a: a.attention_out.bias is not None,
            },
        ),
        _LayerType(TokenShift, _attributes("shifts")),
        _LayerType(StochasticDepth, _attributes("survival")),
        # The modules of torch inside our layers: dropouts and activations.
        _LayerType(nn.Dropout, _attributes("p", "inplace")),
        _LayerType(nn.Identity, {}),
        _LayerType(nn.GELU, _attributes("approximate")),
        _LayerType(nn.ReLU, _attributes("inplace")),
        _LayerType(nn.SiLU, _attributes("inplace")),
        _LayerType(nn.Sigmoid, {}),
        _LayerType(nn.Tanh, {}),
    )
}
