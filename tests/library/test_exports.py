"""The models in the hands of torch: compiled, exported, vmapped, saved, built without memory."""

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
    ConvolutionProjection,
    DecayedToeplitzProjection,
    Encoder,
    GMLPBlock,
    ImageClassifier,
    LanguageModel,
    MixerBlock,
    MultiplicativeGate,
    SpatialProjection,
    StochasticDepth,
    TinyAttention,
    ToeplitzProjection,
    TokenShift,
    TransformerLayer,
    WindowedProjection,
)
from tests.support.helpers import FLOAT64, random, randomised

# torch warns of its own doings here.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    # Its attention on a CPU goes through vmap one by one.
    "ignore:There is a performance drop .* aten..?_scaled_dot_product:UserWarning",
    # And so do the gradients of a Toeplitz weight, where each sample wants its own.
    "ignore:There is a performance drop .* aten..?unfold_backward:UserWarning",
    # Its transforms stay calls in machine code.
    "ignore:Torchinductor does not support code generation for complex operators:UserWarning",
)

B, D_MODEL, D_FFN, SEQ_LEN, N_TOKENS = 3, 4, 6, 7, 9
IMAGE, PATCH = (4, 6), (2, 2)


@dataclass(frozen=True)
class Model:
    build: Callable[[], nn.Module]
    # (B, n): an input of that size, in torch's default dtype.
    make_input: Callable[[int, int], Tensor]
    # Those of the state dict, which converters and checkpoints depend on.
    keys: list[str]
    # Those that it takes; one alone if it takes no other.
    lengths: tuple[int, ...] = (1, 3, 5, SEQ_LEN)
    # Whether modules draw their parameters in the order in which they stand in their parents.
    draws_in_order: bool = True
    # An exported program takes lengths of so many, twice that or more.
    window: int = 1


def vectors(n_batch, n):
    return torch.randn(n_batch, n, D_MODEL)


def tokens(n_batch, n):
    return torch.randint(N_TOKENS, (n_batch, n))


def images(n_batch, n):
    return torch.randn(n_batch, 3, *IMAGE)


def heads():
    return SpatialProjection(SEQ_LEN, causal=True, n_heads=3)


def with_projection(projection):
    return GMLPBlock(D_MODEL, D_FFN, causal=projection.causal, projection=projection)


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


# The transform's length is a number of Python's, so that it is one in a graph too.
FFT = {
    "Toeplitz by FFT": projecting(
        lambda: ToeplitzProjection(SEQ_LEN, fft_from=2), lengths=(SEQ_LEN,)
    ),
    "Toeplitz by FFT, causal heads": projecting(
        lambda: ToeplitzProjection(SEQ_LEN, causal=True, n_heads=3, fft_from=2), lengths=(SEQ_LEN,)
    ),
}
# Another model is one more entry: every test below takes it.
MODELS = {
    "GMLPBlock": Model(lambda: GMLPBlock(D_MODEL, D_FFN, SEQ_LEN), vectors, GMLP_KEYS),
    "GMLPBlock, causal heads": Model(
        lambda: GMLPBlock(D_MODEL, D_FFN, causal=True, projection=heads()),
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
        lambda: GMLPBlock(D_MODEL, D_FFN, SEQ_LEN, attention=TinyAttention(D_MODEL, 3, 5)),
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
        lambda: GMLPBlock(D_MODEL, D_FFN, SEQ_LEN, token_shift=TokenShift((-1, 0, 2))),
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


def compilations(name: str, backend: str) -> int:
    """How many it took for all sizes."""
    torch._dynamo.reset()
    counter, model = CompileCounterWithBackend(backend), model_of(name)
    compiled = torch.compile(model, backend=counter, fullgraph=True, dynamic=True)
    # torch builds sizes of one in, so these start at two.
    sizes, counts = sizes_of(name, smallest=2), set()
    for n_batch, n in (sizes[0], sizes[-1]):
        x = input_of(name, n_batch, n)
        want, got = (loss_and_gradients(model, forward, x) for forward in (model, compiled))
        counts.add(counter.frame_count)
        # A compiler may add in another order: a few units in the last place of float32.
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    return len(counts)


@every_model
def test_a_compiled_model_equals_the_model_and_is_compiled_once_for_all_sizes(name):
    assert compilations(name, "aot_eager") == 1


@pytest.mark.slow
@every_model
def test_a_model_compiled_to_machine_code_equals_the_model(name):
    # It may want another for another size, as for a convolution.
    assert compilations(name, "inductor") >= 1


# torch.export


@functools.cache
def exported(name: str) -> ExportedProgram:
    """Of any batch size and any length that the model takes, the longest included."""
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
    [given] = session.get_inputs()
    for n_batch, n in sizes_of(name):
        x = input_of(name, n_batch, n)
        [y] = session.run(None, {given.name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), model(x).detach(), rtol=0, atol=1e-5)


# Writing ONNX takes seconds; these two hold every kind of layer.
IN_HASTE = ["GMLPBlock, causal heads", "LanguageModel"]


@pytest.mark.parametrize("name", IN_HASTE)
def test_an_onnx_file_equals_the_model_at_any_size(name):
    assert_onnx_equals(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name not in IN_HASTE])
def test_an_onnx_file_of_any_model_equals_it_at_any_size(name):
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
    # A token of bfloat16 is off by up to 2^-9 of itself. Two layers round about ten times in a row,
    # and a product of two rounded numbers counts twice.
    error = (y.float() - want).norm() / want.norm()
    assert 0 < error < 20 * 2**-9
    y.float().square().mean().backward()
    for p in model.parameters():
        assert p.grad.dtype == torch.float32
        assert p.grad.isfinite().all()


# Copies, files, memory


@every_model
@pytest.mark.parametrize("copied", ["deepcopy", "pickle"])
def test_a_copy_is_equal_and_apart(name, copied):
    model, x = model_of(name), input_of(name, B, longest(name))
    y = model(x)
    twin = copy.deepcopy(model) if copied == "deepcopy" else pickle.loads(pickle.dumps(model))
    assert torch.equal(twin(x), y)
    for p in twin.parameters():
        nn.init.zeros_(p)
    assert torch.equal(model(x), y)


@every_model
def test_the_keys_of_the_state_dict_are_these(name):
    assert list(MODELS[name].build().state_dict()) == MODELS[name].keys


@every_model
def test_a_state_dict_goes_through_a_file_that_holds_weights_alone(name):
    model, file = model_of(name), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = MODELS[name].build().eval()
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    x = input_of(name, B, longest(name))
    assert torch.equal(other(x), model(x))


def reset(module: nn.Module) -> None:
    getattr(module, "reset_parameters", lambda: None)()


def built_without_memory(name: str) -> nn.Module:
    with torch.device("meta"):
        model = MODELS[name].build()
    assert {p.device.type for p in model.parameters()} == {"meta"}
    model = model.to_empty(device="cpu")
    for p in model.parameters():
        nn.init.constant_(p, torch.nan)
    torch.manual_seed(0)
    return model.apply(reset)


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.draws_in_order])
def test_a_model_built_without_memory_and_then_reset_equals_a_fresh_one(name):
    made = built_without_memory(name)
    torch.manual_seed(0)
    fresh = MODELS[name].build().state_dict()
    assert all(torch.equal(p, fresh[key]) for key, p in made.state_dict().items())


@every_model
def test_a_model_built_without_memory_and_then_reset_is_drawn_as_a_fresh_one(name):
    made = built_without_memory(name).state_dict()
    torch.manual_seed(1)
    fresh = MODELS[name].build().state_dict()
    for key, p in made.items():
        if fresh[key].unique().numel() == 1:
            assert torch.equal(p, fresh[key]), key
        else:
            # Standard deviations of N numbers are off by at most 1 / sqrt(2 N) of themselves, and
            # here two are compared; four times that.
            off = 4 / p.numel() ** 0.5
            assert (p.std() / fresh[key].std()).log().abs() < off, key
            assert (p.mean() - fresh[key].mean()).abs() < 4 * off * p.std(), key
    x = input_of(name, B, longest(name))
    assert MODELS[name].build()(x).shape == built_without_memory(name)(x).shape


@pytest.mark.parametrize("name", FFT)
def test_the_length_of_a_transform_is_fixed_in_a_program(name):
    x, dims = input_of(name, B, 5), {0: Dim("b", min=1), 1: Dim("n", min=2, max=SEQ_LEN)}
    with pytest.raises(torch._dynamo.exc.UserError, match=r"Constraints violated \(n\)"):
        torch.export.export(model_of(name), (x,), dynamic_shapes=(dims,))


def test_the_exported_length_ends_where_the_weights_end():
    program = exported("GMLPBlock").module()
    with pytest.raises(AssertionError, match=f"Guard failed: .*<= {SEQ_LEN}"):
        program(random(1, SEQ_LEN + 1, D_MODEL).float())
