import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scorer_core import networks, noise
from scorer_core.config import RunConfig
from scorer_core.networks.layers import Layers, Net, Piece, Recorder, Using
from scorer_core.networks.perception import l1_normalise
from scorer_core.noise import Stream

SEED = torch.tensor(3)


def sizes(network: networks.Pieces) -> list[tuple[int, ...]]:
    return [piece.weight for piece in network]


def dense(inputs: int, outputs: int, initial: str = "orthogonal", gain: float = 2**0.5) -> Piece:
    return Piece("dense", (inputs, outputs), initial, gain)


def test_the_paper_s_minatar_networks_have_its_sizes():
    shape = networks.shape_of(RunConfig(task="minatar/breakout"), observation_shape=(10, 10, 4), num_actions=3)
    assert sizes(shape.phi) == [(400, 128), (128, 128)]
    assert sizes(shape.theta) == [(128, 128), (128, 3)]
    assert [piece.gain for piece in shape.theta] == [2**0.5, 0.01]


def test_layers_are_views_that_flatten_gives_back():
    two = (dense(4, 3), dense(3, 2))
    vector = torch.arange(4.0 * 3 + 3 + 3 * 2 + 2)
    layers = networks.layers(vector, two)
    assert [(w.shape, b.shape) for w, b in layers] == [((4, 3), (3,)), ((3, 2), (2,))]
    assert torch.equal(networks.flatten(layers), vector)
    assert layers[0][0].data_ptr() == vector.data_ptr()


@pytest.mark.parametrize("size", [(40, 7), (7, 40)])
def test_weights_start_orthogonal_with_their_gain_and_biases_at_zero(size):
    both = (dense(*size), dense(size[1], 5, gain=0.01))
    (weight, bias), (last, _) = networks.layers(networks.init(SEED, Stream.INIT_PHI, both), both)
    narrow = weight.T @ weight if size[0] >= size[1] else weight @ weight.T
    torch.testing.assert_close(narrow, 2 * torch.eye(min(size)), rtol=0, atol=1e-5)
    assert not bias.any()
    torch.testing.assert_close(torch.linalg.svdvals(last), torch.full((5,), 0.01), rtol=1e-4, atol=0)


def test_players_and_seeds_start_differently():
    layer = (dense(20, 10),)
    one = networks.init(SEED, Stream.INIT_PHI, layer)
    assert not torch.equal(one, networks.init(SEED, Stream.INIT_THETA, layer))
    assert not torch.equal(one, networks.init(SEED + 1, Stream.INIT_PHI, layer))


def test_l1_normalise_gives_each_row_a_mean_absolute_value_of_one_and_leaves_zeros():
    x = torch.tensor([[1.0, -3.0], [0.0, 0.0]])
    torch.testing.assert_close(l1_normalise(x), torch.tensor([[0.5, -1.5], [0.0, 0.0]]))


@pytest.mark.parametrize("head", ["streams", "shared"])
def test_a_dueling_head_is_a_value_and_advantages_whose_mean_is_zero(head):
    config = RunConfig(task="minatar/breakout", algorithm="dueling_dqn", dueling_head=head)
    shape = networks.shape_of(config, observation_shape=(10, 10, 4), num_actions=3)
    official = [(128, 64), (64, 1), (128, 64), (64, 3)]
    assert sizes(shape.theta) == (official if head == "streams" else [(128, 128), (128, 1), (128, 3)])
    layers = list(networks.layers(networks.init(SEED, Stream.INIT_THETA, shape.theta), shape.theta))
    z = noise.normal(SEED, 0, Stream.INIT_PHI, (7, 128))
    before = networks.control(tuple(layers), z, shape)
    weight, bias = layers[-1]
    layers[-1] = weight, bias + 5  # the same advantage for every action is none
    torch.testing.assert_close(networks.control(tuple(layers), z, shape), before)
    place = 1
    weight, bias = layers[place]
    layers[place] = weight, bias + 5
    torch.testing.assert_close(networks.control(tuple(layers), z, shape), before + 5)


def test_halving_an_odd_width_for_two_streams_is_refused():
    with pytest.raises(ValueError, match=r"theta_widths .* cannot be halved"):
        RunConfig(task="minatar/breakout", algorithm="dueling_ddqn", theta_widths=(7,))


def test_the_cnn_is_torch_s_convolution():
    config = RunConfig(task="minatar/breakout", network="cnn", normalise_input=False, normalise_features=False)
    shape = networks.shape_of(config, observation_shape=(10, 10, 4), num_actions=3)
    assert sizes(shape.phi) == [(36, 16), (1024, 128), (128, 128)]
    first, *rest = networks.layers(networks.init(SEED, Stream.INIT_PHI, shape.phi), shape.phi)
    picture = noise.uniform(SEED, 0, Stream.INIT_PHI, (5, 10, 10, 4))
    filters = first[0].T.reshape(16, 4, 3, 3)
    z = torch.relu(torch.nn.functional.conv2d(picture.permute(0, 3, 1, 2), filters, first[1]))
    z = z.permute(0, 2, 3, 1).flatten(1)
    for weight, bias in rest:
        z = torch.relu(z @ weight + bias)
    torch.testing.assert_close(networks.perception((first, *rest), picture, shape), z, rtol=1e-4, atol=1e-5)


def test_the_cnn_wants_pictures():
    with pytest.raises(ValueError, match="network: cnn needs observations"):
        networks.shape_of(RunConfig(task="CartPole-v1", network="cnn"), observation_shape=(4,), num_actions=2)


# --- layers ---

CONFIG = RunConfig(task="minatar/breakout", normalise_input=False, normalise_features=False)
Network = Callable[[Net, Tensor], Tensor]


def pieces(network: Network, x: Tensor, **settings: Any) -> networks.Pieces:
    recorder = Recorder(CONFIG.model_copy(update=settings))
    assert network(recorder, x).shape == network(Using(random_layers(recorder.pieces)), x).shape
    return tuple(recorder.pieces)


def random_layers(of: list[Piece] | networks.Pieces) -> Layers:
    """Layers in which weights and biases are random."""
    sizes = [size for piece in of for size in (piece.weight, piece.weight[-1:])]
    parts = [noise.normal(SEED, index, Stream.INIT_PHI, size) for index, size in enumerate(sizes)]
    return tuple(zip(parts[::2], parts[1::2], strict=True))


def values_and_gradients(network: Callable[[Tensor, Layers], Tensor], x: Tensor, layers: Layers) -> list[Tensor]:
    """What `network` computes, and the gradients of a nonlinear loss with respect to `x` and every parameter."""
    x = x.clone().requires_grad_()
    layers = tuple((weight.clone().requires_grad_(), bias.clone().requires_grad_()) for weight, bias in layers)
    values = network(x, layers)
    return [values, *torch.autograd.grad((values * values).sum(), [x, *(part for layer in layers for part in layer)])]


def test_layer_norm_is_torch_s_in_values_and_gradients():
    x = 3 * noise.normal(SEED, 9, Stream.INIT_PHI, (5, 7)) + 1
    x[0] = 0.002 * x[0]  # so small that epsilon counts
    layers = random_layers(pieces(lambda net, x: net.layer_norm(x), x))

    def torch_s(x: Tensor, layers: Layers) -> Tensor:
        theirs = torch.nn.LayerNorm(7, eps=1e-6)
        return torch.func.functional_call(theirs, dict(zip(("weight", "bias"), layers[0], strict=True)), (x,))

    ours = values_and_gradients(lambda x, layers: Using(layers).layer_norm(x), x, layers)
    for our, their in zip(ours, values_and_gradients(torch_s, x, layers), strict=True):
        # Gradients are up to 100, and torch adds in another order.
        torch.testing.assert_close(our, their, rtol=1e-5, atol=1e-5)
    centred = x - x.mean(1, keepdim=True)
    by_hand = centred / torch.sqrt((centred * centred).mean(1, keepdim=True) + 1e-6) * layers[0][0] + layers[0][1]
    torch.testing.assert_close(ours[0], by_hand)


def test_layer_norm_starts_as_the_normalization_alone():
    found = pieces(lambda net, x: net.layer_norm(x), torch.zeros(1, 7))
    assert found == (Piece("layer_norm0", (7,), "ones"),)
    ((weight, bias),) = networks.layers(networks.init(SEED, Stream.INIT_PHI, found), found)
    assert weight.tolist() == [1.0] * 7
    assert bias.tolist() == [0.0] * 7


CONVOLUTIONS = [  # (filters, size, stride) of each layer
    [(6, 3, 1)],
    [(6, 3, 2)],
    [(6, 5, 4)],
    [(6, 2, 4)],
    [(5, 5, 4), (6, 3, 2)],
    [(5, 3, 1), (6, 4, 2)],
    [(5, 4, 2), (6, 3, 1)],
]


def convolved(net: Net, x: Tensor, convolutions: list[tuple[int, int, int]]) -> Tensor:
    for convolution in convolutions:
        x = torch.tanh(net.conv(x, *convolution))
    return x


def torch_convolved(x: Tensor, layers: Layers, convolutions: list[tuple[int, int, int]]) -> Tensor:
    x = x.permute(0, 3, 1, 2)
    for (weight, bias), (filters, size, stride) in zip(layers, convolutions, strict=True):
        x = torch.tanh(functional.conv2d(x, weight.T.reshape(filters, -1, size, size), bias, stride))
    return x.permute(0, 2, 3, 1)


@pytest.mark.parametrize("convolutions", CONVOLUTIONS, ids=str)
def test_convolutions_are_torch_s_in_values_and_gradients(convolutions):
    x = noise.normal(SEED, 9, Stream.INIT_PHI, (3, 18, 15, 4))
    layers = random_layers(pieces(lambda net, x: convolved(net, x, convolutions), x))
    layers = tuple((weight / math.sqrt(len(weight)), bias) for weight, bias in layers)
    ours = values_and_gradients(lambda x, layers: convolved(Using(layers), x, convolutions), x, layers)
    theirs = values_and_gradients(lambda x, layers: torch_convolved(x, layers, convolutions), x, layers)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("error")  # as if there were no fast rule for a batch of lanes
@pytest.mark.parametrize("convolutions", CONVOLUTIONS, ids=str)
def test_the_gradients_of_convolutions_in_many_lanes_are_torch_s_in_each_and_there_is_no_warning(convolutions):
    lanes, size = 3, (2, 18, 15, 4)
    x = noise.normal(SEED, 9, Stream.INIT_PHI, (lanes, *size))
    found = pieces(lambda net, x: convolved(net, x, convolutions), x[0])
    lengths = sum(math.prod(piece.weight) + piece.weight[-1] for piece in found)
    parameters = 0.2 * noise.normal(SEED, 8, Stream.INIT_PHI, (lanes, lengths))

    def ours(parameters: Tensor, x: Tensor) -> Tensor:
        return (convolved(Using(networks.layers(parameters, found)), x, convolutions) ** 2).sum()

    def theirs(parameters: Tensor, x: Tensor) -> Tensor:
        return (torch_convolved(x, networks.layers(parameters, found), convolutions) ** 2).sum()

    together = torch.func.vmap(torch.func.grad(ours))(parameters, x)
    alone = torch.stack([torch.func.grad(theirs)(*lane) for lane in zip(parameters, x, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_layer_normalization_comes_before_each_activation_and_if_set_after_the_last_layer_of_the_features():
    x = noise.normal(SEED, 9, Stream.INIT_PHI, (6, 10))

    def normalised(x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], eps=1e-6)

    for layer_norm, of_features in (("hidden", lambda z: z), ("hidden_and_features", normalised)):
        settings: dict[str, Any] = {"layer_norm": layer_norm, "phi_widths": (8, 5), "theta_widths": (4,)}
        shape = networks.shape_of(CONFIG.model_copy(update=settings), observation_shape=(10,), num_actions=3)
        phi = networks.layers(networks.init(SEED, Stream.INIT_PHI, shape.phi), shape.phi)
        theta = networks.layers(networks.init(SEED, Stream.INIT_THETA, shape.theta), shape.theta)
        z = x
        for weight, bias in (phi[0], phi[2]):
            z = torch.relu(normalised(z @ weight + bias))
        z = of_features(z)
        torch.testing.assert_close(networks.perception(phi, x, shape), z)
        hidden = torch.relu(normalised(z @ theta[0][0] + theta[0][1]))
        torch.testing.assert_close(networks.control(theta, z, shape), hidden @ theta[2][0] + theta[2][1])


@pytest.mark.parametrize(("initial", "gain"), [("lecun", 1.0), ("he", 2.0)])
def test_weights_start_truncated_normal_with_the_variance_of_lecun_and_he_in_every_layer(initial, gain):
    """0.87962566 is the standard deviation of a standard normal that is truncated at -2 and 2."""

    def network(net: Net, x: Tensor) -> Tensor:
        x = net.conv(x, 2_000, 3).flatten(1)[:, :300]
        return net.dense(net.dense(x, 500), 200, is_output=True)

    found = pieces(network, torch.zeros(1, 4, 4, 4), initial_weights=initial)
    assert sizes(found) == [(36, 2_000), (300, 500), (500, 200)]
    for weight, bias in networks.layers(networks.init(SEED, Stream.INIT_PHI, found), found):
        variance = gain / len(weight)
        assert weight.var().item() == pytest.approx(variance, rel=0.03)
        assert abs(weight.mean().item()) < 0.02 * math.sqrt(variance)
        most = 2 / 0.87962566 * math.sqrt(variance)
        assert weight.abs().max().item() <= most * (1 + 1e-6)
        assert weight.max().item() > 0.99 * most
        assert weight.min().item() < -0.99 * most
        assert not bias.any()
