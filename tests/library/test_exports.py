"""Models under torch.compile, export, ONNX, vmap, autocast, pickle and the meta device."""

import copy
import functools
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.export import Dim, ExportedProgram
from torch.func import functional_call, grad, jacrev, stack_module_state, vmap

from labml_gmlp import (
    AMLPBlock,
    ConvolutionProjection,
    DecayedToeplitzProjection,
    Encoder,
    GMLPBlock,
    ImageClassifier,
    LanguageModel,
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
)
from tests.support.helpers import FLOAT64, random, randomised

# Warnings that torch raises about itself.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    # vmap has no batched kernel for attention on a CPU.
    "ignore:There is a performance drop .* aten..?_scaled_dot_product:UserWarning",
    # Nor for the gradient of a Toeplitz weight.
    "ignore:There is a performance drop .* aten..?unfold_backward:UserWarning",
    # Inductor calls the FFT instead of generating code for it.
    "ignore:Torchinductor does not support code generation for complex operators:UserWarning",
)

B, D_MODEL, D_FFN, SEQ_LEN, N_TOKENS = 3, 4, 6, 7, 9
IMAGE, PATCH = (4, 6), (2, 2)


@dataclass(frozen=True)
class Model:
    build: Callable[[], nn.Module]
    # An input of batch size B and length n, in torch's default dtype.
    make_input: Callable[[int, int], Tensor]
    # The keys of the state dict, which converters and checkpoints depend on.
    keys: list[str]
    # The lengths to test; a single one if the model takes no other.
    lengths: tuple[int, ...] = (1, 3, 5, SEQ_LEN)
    # Whether the constructor draws parameters in the order of `modules()`.
    draws_in_order: bool = True
    # If not 1, an exported program takes multiples of this length, at least twice.
    window: int = 1


def vectors(n_batch, n):
    return torch.randn(n_batch, n, D_MODEL)


def tokens(n_batch, n):
    return torch.randint(N_TOKENS, (n_batch, n))


def images(n_batch, n):
    return torch.randn(n_batch, 3, *IMAGE)


def heads():
    return MultiHeadSpatialProjection(SEQ_LEN, 3, causal=True)


def with_projection(projection):
    unit = SpatialGatingUnit(D_FFN, projection=projection)
    return GMLPBlock(D_MODEL, D_FFN, causal=projection.causal, sgu=unit)


def classifier():
    return ImageClassifier(
        Encoder(lambda: GMLPBlock(D_MODEL, D_FFN, 6), 2), 5, image_size=IMAGE, patch_size=PATCH
    )


def mixed(i):
    if i % 2:
        return TransformerLayer(D_MODEL, 2, 5, causal=True)
    return GMLPBlock(D_MODEL, D_FFN, SEQ_LEN, causal=True)


def both(*names):
    return [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]


def under(prefix, keys):
    return [f"{prefix}.{key}" for key in keys]


GMLP_KEYS = both("norm", "proj_in", "sgu.norm", "sgu.projection", "proj_out")
TRANSFORMER_KEYS = both(
    "attention_norm", "attention_in", "attention_out", "norm", "proj_in", "proj_out"
)
AMLP_KEYS = both(
    "norm",
    "attention.attention_in",
    "attention.attention_out",
    "proj_in",
    "sgu.norm",
    "sgu.projection",
    "proj_out",
)
ENCODER_KEYS = [
    *under("layers.0", GMLP_KEYS),
    *under("layers.1", TRANSFORMER_KEYS),
    *both("norm"),
]


def projecting(make_projection, keys=GMLP_KEYS, **options):
    return Model(
        lambda: with_projection(make_projection()), vectors, keys, draws_in_order=False, **options
    )


# The length of the FFT is a Python integer, so it is a constant in a graph.
FFT = {
    "Toeplitz by FFT": projecting(
        lambda: ToeplitzProjection(SEQ_LEN, fft_from=2), lengths=(SEQ_LEN,)
    ),
    "Toeplitz by FFT, causal heads": projecting(
        lambda: ToeplitzProjection(SEQ_LEN, causal=True, n_heads=3, fft_from=2), lengths=(SEQ_LEN,)
    ),
}
# Every test below runs on every entry.
MODELS = {
    "GMLPBlock": Model(lambda: GMLPBlock(D_MODEL, D_FFN, SEQ_LEN), vectors, GMLP_KEYS),
    "GMLPBlock, causal heads": Model(
        lambda: with_projection(heads()),
        vectors,
        GMLP_KEYS,
        draws_in_order=False,
    ),
    "TransformerLayer": Model(
        lambda: TransformerLayer(D_MODEL, 2, 5, causal=True), vectors, TRANSFORMER_KEYS
    ),
    "Encoder": Model(lambda: Encoder(mixed, 2), vectors, ENCODER_KEYS),
    "LanguageModel": Model(
        lambda: LanguageModel(N_TOKENS, Encoder(mixed, 2)),
        tokens,
        ["embedding.weight", *under("encoder", ENCODER_KEYS)],
        draws_in_order=False,
    ),
    "LanguageModel, positions and head": Model(
        lambda: LanguageModel(N_TOKENS, Encoder(mixed, 2), n_positions=SEQ_LEN, tied=False),
        tokens,
        [
            "embedding.weight",
            "positions.weight",
            *under("encoder", ENCODER_KEYS),
            *both("head"),
        ],
        draws_in_order=False,
    ),
    "Toeplitz": projecting(lambda: ToeplitzProjection(SEQ_LEN, fft_from=None)),
    "Toeplitz, causal heads": projecting(
        lambda: ToeplitzProjection(SEQ_LEN, causal=True, n_heads=3, fft_from=None)
    ),
    **FFT,
    "Decayed Toeplitz": projecting(
        lambda: DecayedToeplitzProjection(SEQ_LEN, n_heads=3, fft_from=None),
        [*GMLP_KEYS[:-2], "sgu.projection.row", "sgu.projection.column", *GMLP_KEYS[-2:]],
    ),
    "convolution": projecting(lambda: ConvolutionProjection(D_FFN // 2, 3)),
    "convolution, causal": projecting(lambda: ConvolutionProjection(D_FFN // 2, 4, causal=True)),
    "windows": projecting(lambda: WindowedProjection(2), lengths=(6, 8, 10), window=2),
    "windows, causal heads": projecting(
        lambda: WindowedProjection(2, causal=True, n_heads=3), lengths=(6, 8, 10), window=2
    ),
    "aMLP": Model(
        lambda: AMLPBlock(D_MODEL, D_FFN, SEQ_LEN, attention=TinyAttention(D_MODEL, 3, 5)),
        vectors,
        AMLP_KEYS,
        draws_in_order=False,
    ),
    "Eq. 3": Model(
        lambda: GMLPBlock(
            D_MODEL, D_FFN, sgu=MultiplicativeGate(D_FFN, SpatialProjection(SEQ_LEN))
        ),
        vectors,
        GMLP_KEYS,
        draws_in_order=False,
    ),
    "token shift": Model(
        lambda: AMLPBlock(D_MODEL, D_FFN, SEQ_LEN, token_shift=TokenShift((-1, 0, 2))),
        vectors,
        GMLP_KEYS,
    ),
    "stochastic depth": Model(
        lambda: GMLPBlock(D_MODEL, D_FFN, SEQ_LEN, dropout=StochasticDepth(0.8)),
        vectors,
        GMLP_KEYS,
    ),
    "MixerBlock": Model(
        lambda: MixerBlock(D_MODEL, SEQ_LEN, 3, 8),
        vectors,
        both("token_norm", "token_in", "token_out", "norm", "proj_in", "proj_out"),
        lengths=(SEQ_LEN,),
    ),
    "ImageClassifier": Model(
        classifier,
        images,
        [
            *both("patches"),
            *under("encoder.layers.0", GMLP_KEYS),
            *under("encoder.layers.1", GMLP_KEYS),
            *both("encoder.norm", "head"),
        ],
        lengths=(6,),
        draws_in_order=False,
    ),
}
every_model = pytest.mark.parametrize("name", MODELS)


def model_of(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return randomised(MODELS[name].build()).to(dtype).eval()


def input_of(name: str, n_batch: int, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = MODELS[name].make_input(n_batch, n)
    return x.to(dtype) if x.is_floating_point() else x


def sizes_of(name: str, smallest: int = 1) -> list[tuple[int, int]]:
    lengths = [n for n in MODELS[name].lengths if n >= smallest]
    return [(n_batch, n) for n_batch in (smallest, smallest + 3) for n in lengths]


def longest(name: str) -> int:
    return max(MODELS[name].lengths)


# torch.compile


def loss_and_gradients(model: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> list:
    model.zero_grad()
    loss = forward(x).square().mean()
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters())]


def compilations(model: nn.Module, inputs: list[Tensor], backend: str) -> int:
    """The number of compilations for all sizes of input."""
    torch._dynamo.reset()
    counter, counts = CompileCounterWithBackend(backend), set()
    compiled = torch.compile(model, backend=counter, fullgraph=True, dynamic=True)
    for x in inputs:
        want, got = (loss_and_gradients(model, forward, x) for forward in (model, compiled))
        counts.add(counter.frame_count)
        # A compiler may change the order of additions: a few units in the last place of float32.
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    return len(counts)


def inputs_of_two_sizes(name: str) -> list[Tensor]:
    # torch specialises on sizes of one, so these start at two.
    sizes = sizes_of(name, smallest=2)
    return [input_of(name, *size) for size in (sizes[0], sizes[-1])]


# The "eager" backend runs the captured graph as it is. This tests that the whole model is one graph
# for all sizes.
@every_model
def test_a_model_is_captured_as_one_graph_for_all_sizes(name):
    assert compilations(model_of(name), inputs_of_two_sizes(name), "eager") == 1


# The "aot_eager" backend also traces the backward pass, which takes ten times as long. By default
# it runs on the layers that mix tokens, without the block around them.
MIXING_LAYERS = {
    "free, causal heads": heads,
    "Toeplitz, causal heads": lambda: ToeplitzProjection(
        SEQ_LEN, causal=True, n_heads=3, fft_from=None
    ),
    "convolution, causal": lambda: ConvolutionProjection(12, 4, causal=True),
    "windows, causal heads": lambda: WindowedProjection(2, causal=True, n_heads=3),
    "tiny attention, causal": lambda: TinyAttention(12, 3, 5, causal=True),
}


@pytest.mark.parametrize("name", MIXING_LAYERS)
def test_a_compiled_layer_equals_the_layer_and_is_compiled_once_for_all_sizes(name):
    torch.manual_seed(0)
    layer, sizes = randomised(MIXING_LAYERS[name]()).float(), [(2, 4), (5, 6)]
    assert compilations(layer, [torch.randn(*size, 12) for size in sizes], "aot_eager") == 1


@pytest.mark.parametrize(
    "name",
    [
        name if name == "TransformerLayer" else pytest.param(name, marks=pytest.mark.slow)
        for name in MODELS
    ],
)
def test_a_compiled_model_equals_the_model_and_is_compiled_once_for_all_sizes(name):
    assert compilations(model_of(name), inputs_of_two_sizes(name), "aot_eager") == 1


@pytest.mark.slow
@every_model
def test_a_model_compiled_to_machine_code_equals_the_model(name):
    # Some models, such as a convolution, are compiled again for another size.
    assert compilations(model_of(name), inputs_of_two_sizes(name), "inductor") >= 1


# torch.export


@functools.cache
def exported(name: str) -> ExportedProgram:
    """A program for any batch size and any length that the model takes."""
    dims = {0: Dim("b", min=1)}
    if len(MODELS[name].lengths) > 1:
        w = MODELS[name].window
        dims[1] = (
            Dim("n", min=1, max=longest(name)) if w == 1 else w * Dim("u", min=2, max=longest(name))
        )
    x = input_of(name, 3, sorted(MODELS[name].lengths)[-2:][0])
    return torch.export.export(model_of(name), (x,), dynamic_shapes=(dims,))


@every_model
def test_an_exported_program_equals_the_model_at_any_size(name):
    program, model = exported(name).module(), model_of(name)
    for n_batch, n in sizes_of(name):
        x = input_of(name, n_batch, n)
        torch.testing.assert_close(program(x), model(x), rtol=0, atol=1e-6)


def assert_onnx_equals(name: str) -> None:
    pytest.importorskip("onnxscript", reason="torch writes ONNX through it")
    runtime = pytest.importorskip("onnxruntime", reason="runs what was written")
    written = torch.onnx.export(exported(name), (), dynamo=True, verbose=False)
    session = runtime.InferenceSession(
        written.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    model = model_of(name)
    [argument] = session.get_inputs()
    for n_batch, n in sizes_of(name):
        x = input_of(name, n_batch, n)
        [y] = session.run(None, {argument.name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), model(x).detach(), rtol=0, atol=1e-5)


# Writing ONNX takes seconds, so by default only two models that cover both kinds of layer run.
WRITTEN_AS_ONNX = ["GMLPBlock, causal heads", "LanguageModel"]


@pytest.mark.parametrize(
    "name",
    [
        name if name in WRITTEN_AS_ONNX else pytest.param(name, marks=pytest.mark.slow)
        for name in MODELS
    ],
)
def test_an_onnx_file_equals_the_model_at_any_size(name):
    assert_onnx_equals(name)


# torch.func


@every_model
def test_an_ensemble_under_vmap_equals_its_members(name):
    torch.manual_seed(0)
    members = [randomised(MODELS[name].build()).eval() for _ in range(3)]
    parameters, buffers = stack_module_state(members)
    x, skeleton = input_of(name, B, longest(name), FLOAT64), copy.deepcopy(members[0]).to("meta")
    together = vmap(
        lambda parameters, buffers: functional_call(skeleton, (parameters, buffers), (x,))
    )(parameters, buffers)
    apart = torch.stack([member(x) for member in members])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-12)


@every_model
def test_a_functional_gradient_and_a_gradient_for_each_sample_equal_those_of_autograd(name):
    model = model_of(name, FLOAT64)
    x, parameters = input_of(name, B, longest(name), FLOAT64), dict(model.named_parameters())

    def loss(parameters, x):
        return functional_call(model, parameters, (x,)).square().sum()

    model(x).square().sum().backward()
    once = grad(loss)(parameters, x)
    each = vmap(grad(lambda p, x: loss(p, x[None])), in_dims=(None, 0))(parameters, x)
    for key, p in parameters.items():
        # The loss is a sum over the samples. Its gradients reach into the thousands.
        torch.testing.assert_close(once[key], p.grad, rtol=1e-11, atol=1e-9)
        torch.testing.assert_close(each[key].sum(dim=0), p.grad, rtol=1e-11, atol=1e-9)


@every_model
def test_a_functional_jacobian_equals_that_of_autograd(name):
    model = model_of(name, FLOAT64)
    x, parameters = (
        input_of(name, 1, min(MODELS[name].lengths), FLOAT64),
        dict(model.named_parameters()),
    )
    got = jacrev(lambda p: functional_call(model, p, (x,)).flatten())(parameters)
    for i, y in enumerate(model(x).flatten()):
        want = torch.autograd.grad(y, parameters.values(), retain_graph=True)
        for key, gradient in zip(parameters, want, strict=True):
            torch.testing.assert_close(got[key][i], gradient, rtol=0, atol=1e-10)


# Precision


@every_model
def test_autocast_gives_nearly_the_same_and_leaves_the_gradients_in_float32(name):
    model = model_of(name)
    x = input_of(name, B, longest(name))
    want = model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    # Rounding to bfloat16 has a relative error of up to 2^-9. Two layers round about ten times in a
    # row, and a product of two rounded numbers counts twice.
    error = (y.float() - want).norm() / want.norm()
    assert 0 < error < 20 * 2**-9
    y.float().square().mean().backward()
    for p in model.parameters():
        assert p.grad.dtype == torch.float32
        assert p.grad.isfinite().all()


# Copies, files, memory


@every_model
def test_a_deep_copy_and_a_pickle_are_equal_and_independent(name):
    model, x = model_of(name), input_of(name, B, longest(name))
    y = model(x)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(x), y)
        for p in copied.parameters():
            nn.init.zeros_(p)
        assert torch.equal(model(x), y)
        assert not torch.equal(copied(x), y)


@every_model
def test_the_keys_of_the_state_dict_are_these(name):
    assert list(MODELS[name].build().state_dict()) == MODELS[name].keys


@every_model
def test_a_state_dict_survives_a_file_loaded_with_weights_only(name):
    model, file = model_of(name), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = MODELS[name].build().eval()
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    x = input_of(name, B, longest(name))
    assert torch.equal(other(x), model(x))


def reset(module: nn.Module) -> None:
    getattr(module, "reset_parameters", lambda: None)()


def built_on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        model = MODELS[name].build()
    assert {p.device.type for p in model.parameters()} == {"meta"}
    model = model.to_empty(device="cpu")
    for p in model.parameters():
        nn.init.constant_(p, torch.nan)
    torch.manual_seed(0)
    return model.apply(reset)


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.draws_in_order])
def test_a_model_built_on_the_meta_device_and_reset_equals_a_fresh_one(name):
    made = built_on_meta(name)
    torch.manual_seed(0)
    fresh = MODELS[name].build().state_dict()
    assert all(torch.equal(p, fresh[key]) for key, p in made.state_dict().items())


@every_model
def test_a_model_built_on_the_meta_device_and_reset_has_the_distribution_of_a_fresh_one(name):
    made = built_on_meta(name).state_dict()
    torch.manual_seed(1)
    fresh = MODELS[name].build().state_dict()
    for key, p in made.items():
        if fresh[key].unique().numel() == 1:
            assert torch.equal(p, fresh[key]), key
        else:
            # The standard deviation of N samples has a relative error of 1 / sqrt(2 N). Two are
            # compared; this allows four times that.
            off = 4 / p.numel() ** 0.5
            assert (p.std() / fresh[key].std()).log().abs() < off, key
            assert (p.mean() - fresh[key].mean()).abs() < 4 * off * p.std(), key
    x = input_of(name, B, longest(name))
    assert MODELS[name].build()(x).shape == built_on_meta(name)(x).shape


@pytest.mark.parametrize("name", FFT)
def test_the_length_of_an_fft_is_fixed_in_an_exported_program(name):
    x, dims = input_of(name, B, 5), {0: Dim("b", min=1), 1: Dim("n", min=2, max=SEQ_LEN)}
    with pytest.raises(torch._dynamo.exc.UserError, match=r"Constraints violated \(n\)"):
        torch.export.export(model_of(name), (x,), dynamic_shapes=(dims,))


def test_an_exported_program_refuses_more_than_seq_len_tokens():
    program = exported("GMLPBlock").module()
    with pytest.raises(AssertionError, match=f"Guard failed: .*<= {SEQ_LEN}"):
        program(random(1, SEQ_LEN + 1, D_MODEL).float())
