"""Saved models: any layers are loaded as they were saved."""

import dataclasses
import json
import shutil
import sys

import pytest
import torch
from torch import nn

from labml_gmlp import (
    AdditiveGate,
    AMLPBlock,
    AMLPGatingUnit,
    ConvolutionProjection,
    DecayedToeplitzProjection,
    Encoder,
    GMLPBlock,
    ImageClassifier,
    LanguageModel,
    LinearGate,
    MixerBlock,
    MultiHeadSpatialProjection,
    MultiplicativeGate,
    SpatialGatingUnit,
    SpatialProjection,
    StochasticDepth,
    TinyAttention,
    ToeplitzProjection,
    TokenShift,
    TransformerLayer,
    WindowedProjection,
    sizes,
)
from labml_gmlp.weights.description import layer_tree, model_from_layer_tree
from labml_gmlp.weights.errors import WeightsError
from labml_gmlp.weights.preprocessing import Preprocessing
from labml_gmlp.weights.pretrained import from_pretrained, preprocessing_from, save_pretrained
from tests.support.helpers import assert_raises, randomised

N = 6
CAUSAL = {"causal": True}
PROJECTIONS = {
    "heads": lambda: MultiHeadSpatialProjection(N, 3),
    "Toeplitz": lambda: ToeplitzProjection(N, causal=True, n_heads=2, fft_from=3),
    "Toeplitz without FFT": lambda: ToeplitzProjection(N, fft_from=None),
    "decayed": lambda: DecayedToeplitzProjection(N, n_heads=2),
    "convolution": lambda: ConvolutionProjection(6, 3),
    "causal convolution": lambda: ConvolutionProjection(6, 4, causal=True),
    "windows": lambda: WindowedProjection(2, causal=True, n_heads=2),
}
LAYERS = {
    **{
        name: lambda make=make: GMLPBlock(4, 12, sgu=SpatialGatingUnit(12, projection=make()))
        for name, make in PROJECTIONS.items()
    },
    "gMLP": lambda: GMLPBlock(4, 12, sgu=SpatialGatingUnit(12, N, norm_eps=1e-3), norm_eps=1e-6),
    "causal gMLP": lambda: GMLPBlock(4, 12, N, causal=True, activation=torch.tanh),
    "another GELU": lambda: GMLPBlock(
        4, 12, N, activation=nn.GELU("tanh"), dropout=nn.Dropout(0.1)
    ),
    "an activated gate": lambda: GMLPBlock(
        4, 12, sgu=AMLPGatingUnit(12, N, activation=nn.functional.silu, norm_eps=1e-4)
    ),
    "linear gate": lambda: GMLPBlock(4, 12, sgu=LinearGate(12, SpatialProjection(N))),
    "additive gate": lambda: GMLPBlock(4, 12, sgu=AdditiveGate(12, SpatialProjection(N))),
    "Eq. 3": lambda: GMLPBlock(4, 12, sgu=MultiplicativeGate(12, SpatialProjection(N))),
    "aMLP": lambda: AMLPBlock(4, 12, N, attention=TinyAttention(4, 6, 2, in_bias=False)),
    "causal aMLP": lambda: AMLPBlock(
        4,
        12,
        N,
        causal=True,
        attention=TinyAttention(4, 6, 3, causal=True, out_bias=False),
        token_shift=TokenShift((0, 1)),
        dropout=StochasticDepth(0.5),
    ),
    "Mixer": lambda: MixerBlock(4, N, 5, 7, norm_eps=1e-6, activation=nn.functional.relu),
    "Mixer with dropout": lambda: MixerBlock(4, N, 5, 7, dropout=nn.Dropout(0.2)),
    "Transformer": lambda: TransformerLayer(4, 2, 7, dropout=nn.Dropout(0.2)),
    "causal Transformer": lambda: TransformerLayer(4, 2, 7, causal=True, activation=nn.SiLU()),
}


def language(name, **options):
    return LanguageModel(11, Encoder(LAYERS[name], 2, norm_eps=1e-7), **options)


def assert_same(model, again, *inputs):
    model.eval()
    assert not again.training
    assert repr(again) == repr(model)
    assert layer_tree(again) == layer_tree(model)
    assert torch.equal(again(*inputs), model(*inputs))
    for (name, old), (new_name, new) in zip(
        model.named_parameters(), again.named_parameters(), strict=True
    ):
        assert (name, old.dtype, old.requires_grad) == (new_name, new.dtype, new.requires_grad)


@pytest.mark.parametrize("name", LAYERS)
def test_a_language_model_of_any_layers_is_restored(tmp_path, name):
    model = randomised(language(name))
    save_pretrained(model, tmp_path / "model")
    assert_same(model, from_pretrained(tmp_path / "model"), torch.randint(11, (2, N)))


@pytest.mark.parametrize("name", ["gMLP", "Mixer", "aMLP", "Transformer"])
def test_an_image_classifier_is_restored(tmp_path, name):
    encoder = Encoder(LAYERS[name], 2, checkpoint_layers=True)
    model = ImageClassifier(encoder, 3, image_size=(4, 6), patch_size=2, n_channels=1)
    model = randomised(model)
    save_pretrained(model, tmp_path)
    again = from_pretrained(str(tmp_path))
    assert_same(model, again, torch.randn(2, 1, 4, 6, dtype=torch.float64))
    assert again.encoder.checkpoint_layers


@pytest.mark.parametrize("options", [{"tied": False}, {"n_positions": 9}])
def test_the_options_of_a_language_model_are_restored(tmp_path, options):
    model = randomised(language("gMLP", **options))
    save_pretrained(model, tmp_path)
    assert_same(model, from_pretrained(tmp_path), torch.randint(11, (2, N)))


def test_different_layers_are_restored_in_their_types(tmp_path):
    makes = [LAYERS["gMLP"], LAYERS["Transformer"], LAYERS["Mixer"]]
    model = LanguageModel(11, Encoder(lambda i: makes[i](), 3))
    model.encoder.layers[1].to(torch.bfloat16)
    save_pretrained(model, tmp_path)
    again = from_pretrained(tmp_path)
    assert again.encoder.layers[1].proj_in.weight.dtype == torch.bfloat16
    assert again.encoder.layers[0].proj_in.weight.dtype == torch.float32
    assert repr(again) == repr(model.eval())


SIZES = {name: size for name, size in vars(sizes).items() if hasattr(size, "build")}


@pytest.mark.parametrize("name", [n for n in SIZES if n.isupper()])
def test_every_size_of_the_paper_has_a_layer_tree(name):
    size = dataclasses.replace(SIZES[name], n_layers=3)
    with torch.device("meta"):
        model = size.build()
        tree = json.loads(json.dumps(layer_tree(model)))
        again = model_from_layer_tree(tree)
    assert repr(again) == repr(model)
    assert layer_tree(again) == tree


def test_saving_again_replaces_the_model(tmp_path):
    save_pretrained(language("Mixer"), tmp_path)
    model = randomised(language("gMLP"))
    save_pretrained(model, tmp_path)
    assert_same(model, from_pretrained(tmp_path), torch.randint(11, (2, N)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_the_preprocessing_is_saved_with_the_model(tmp_path):
    preprocessing = Preprocessing((8, 12), 0.9, "bilinear", (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    model = ImageClassifier(Encoder(LAYERS["gMLP"], 1), 3, image_size=(4, 6), patch_size=2)
    save_pretrained(model, tmp_path, preprocessing=preprocessing)
    assert preprocessing_from(tmp_path) == preprocessing
    assert repr(from_pretrained(tmp_path)) == repr(model.eval())
    save_pretrained(model, tmp_path)
    assert_raises(lambda: preprocessing_from(tmp_path), WeightsError, "pretrained_cfg")


# ## The hub


def hub_folder(cache, model):
    """A model in the cache of huggingface_hub."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    root = cache / "models--someone--gmlp"
    save_pretrained(model, root / "snapshots" / commit)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    return commit


@pytest.mark.parametrize("by", ["branch", "commit"])
def test_a_model_is_loaded_from_the_cache_of_the_hub(tmp_path, by):
    pytest.importorskip("huggingface_hub", reason="the hub's own package")
    model = randomised(language("aMLP"))
    commit = hub_folder(tmp_path, model)
    again = from_pretrained(
        "someone/gmlp",
        cache_dir=tmp_path,
        local_files_only=True,
        revision=commit if by == "commit" else None,
    )
    assert_same(model, again, torch.randint(11, (2, N)))


def test_a_model_that_is_not_in_the_cache_is_refused(tmp_path):
    pytest.importorskip("huggingface_hub", reason="the hub's own package")
    assert_raises(
        lambda: from_pretrained("someone/other", cache_dir=tmp_path, local_files_only=True),
        WeightsError,
        "name_or_folder",
        "config.json",
        "'someone/other'",
        "LocalEntryNotFoundError",
    )


def test_a_name_of_the_hub_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert_raises(
        lambda: from_pretrained("someone/gmlp"),
        WeightsError,
        "name_or_folder",
        "'someone/gmlp'",
        "pip install huggingface_hub",
    )


@pytest.mark.network
def test_a_model_of_timm_is_loaded_from_the_hub():
    model = from_pretrained("timm/gmlp_s16_224.ra3_in1k")
    prepare = preprocessing_from("timm/gmlp_s16_224.ra3_in1k")
    assert sum(p.numel() for p in model.parameters()) == 19_422_656
    assert model(prepare(torch.rand(1, 3, 300, 400))).shape == (1, 1000)


# ## Errors


@pytest.fixture
def folder(tmp_path):
    save_pretrained(language("gMLP"), tmp_path)
    return tmp_path


def changed(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    return folder


def set_in(*keys, to):
    def change(config):
        for key in keys[:-1]:
            config = config[key]
        config[keys[-1]] = to

    return change


LAYER = ("model", "encoder", "layers", 0)
WHERE = "model.encoder.layers[0]"
BAD_CONFIGS = [
    (set_in("format", to="other"), ["config.json", "format", "'labml_gmlp'"]),
    (set_in("version", to=2), ["config.json", "version", 1, 2]),
    (set_in("model", to=3), ["model", "LanguageModel", "int"]),
    (set_in(*LAYER, "class", to="os.system"), [WHERE, "class", "'os.system'"]),
    (set_in(*LAYER, "class", to=["GMLPBlock"]), [WHERE, "class", "['GMLPBlock']"]),
    (
        set_in(*LAYER, "activation", to={"function": "__import__"}),
        [f"{WHERE}.activation", "['gelu', 'relu', 'sigmoid', 'silu', 'tanh']", "'__import__'"],
    ),
    (set_in(*LAYER, "activation", to=5), [f"{WHERE}.activation", 5]),
    (set_in(*LAYER, "norm_eps", to="1"), [f"{WHERE}.norm_eps", "'1'"]),
    (set_in("model", "tied", to=1), ["model.tied", "true or false", 1]),
    (set_in(*LAYER, "d_ffn", to=0), [WHERE, "GMLPBlock", "d_ffn", 0]),
    (
        set_in("model", "n_layers", to=3),
        [
            "model",
            "['encoder', 'n_positions', 'n_tokens', 'tied']",
            "['encoder', 'n_layers', 'n_positions', 'n_tokens', 'tied']",
        ],
    ),
    (set_in("model", "encoder", "layers", to=[]), ["model.encoder", "Encoder", "n_layers", 0]),
]


@pytest.mark.parametrize(("change", "parts"), BAD_CONFIGS)
def test_an_invalid_config_is_refused(folder, change, parts):
    assert_raises(lambda: from_pretrained(changed(folder, change)), WeightsError, *parts)


def test_no_memory_is_allocated_for_sizes_that_the_weights_do_not_have(folder):
    changed(folder, set_in("model", "n_tokens", to=2**45))
    assert_raises(
        lambda: from_pretrained(folder),
        WeightsError,
        folder / "model.safetensors",
        "embedding.weight",
        f"[{2**45}, 4]",
        "[11, 4]",
    )


def test_one_error_lists_all_names_that_differ(folder):
    changed(folder, set_in("model", "tied", to=False))
    changed(folder, lambda config: config["model"]["encoder"]["layers"].pop())
    assert_raises(
        lambda: from_pretrained(folder),
        WeightsError,
        "missing: head.weight, head.bias;",
        "unexpected: 'encoder.layers.1.norm.bias'",
    )


def test_a_folder_without_a_config_is_refused(folder):
    (folder / "config.json").unlink()
    assert_raises(
        lambda: from_pretrained(folder),
        WeightsError,
        folder / "config.json",
        "No such file",
    )


def test_an_invalid_json_file_is_refused(folder):
    for text in ("{", "[" * 100_000):
        (folder / "config.json").write_text(text)
        assert_raises(
            lambda: from_pretrained(folder),
            WeightsError,
            folder / "config.json",
            "JSON",
        )


class Doubled(GMLPBlock):
    def forward(self, x, *arguments):
        return 2 * super().forward(x, *arguments)


def test_a_model_with_an_unknown_layer_is_not_saved(tmp_path):
    models = {
        "Doubled": LanguageModel(11, Encoder(lambda: Doubled(4, 6, N), 1)),
        "Linear": LanguageModel(
            11, Encoder(lambda: GMLPBlock(4, 6, N, dropout=nn.Linear(4, 4)), 1)
        ),
        "<lambda>": LanguageModel(
            11, Encoder(lambda: GMLPBlock(4, 6, N, activation=lambda x: x), 1)
        ),
    }
    for name, model in models.items():
        assert_raises(
            lambda model=model: save_pretrained(model, tmp_path / "new"),
            WeightsError,
            "model",
            name,
        )
    assert_raises(
        lambda: save_pretrained(LAYERS["gMLP"](), tmp_path / "new"),
        WeightsError,
        "model",
        "GMLPBlock",
    )
    assert not (tmp_path / "new").exists()


def test_a_folder_can_be_moved(folder, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "model"
    shutil.copytree(folder, moved)
    assert repr(from_pretrained(moved)) == repr(from_pretrained(folder))
