import pytest
import torch

from scorer_core import networks, noise
from scorer_core.config import RunConfig
from scorer_core.networks import Size
from scorer_core.noise import Stream

SEED = torch.tensor(3)


def sizes(network) -> list[tuple[int, int]]:
    return [(size.inputs, size.outputs) for size in network]


def test_the_paper_s_minatar_networks_have_its_sizes():
    shape = networks.shape_of(RunConfig(task="minatar/breakout"), observation_shape=(10, 10, 4), num_actions=3)
    assert sizes(shape.phi) == [(400, 128), (128, 128)]
    assert sizes(shape.theta) == [(128, 128), (128, 3)]
    assert [size.gain for size in shape.theta] == [2**0.5, 0.01]


def test_layers_are_views_that_flatten_gives_back():
    two = (Size(4, 3), Size(3, 2))
    vector = torch.arange(4.0 * 3 + 3 + 3 * 2 + 2)
    layers = networks.layers(vector, two)
    assert [(w.shape, b.shape) for w, b in layers] == [((4, 3), (3,)), ((3, 2), (2,))]
    assert torch.equal(networks.flatten(layers), vector)
    assert layers[0][0].data_ptr() == vector.data_ptr()


@pytest.mark.parametrize("size", [(40, 7), (7, 40)])
def test_weights_start_orthogonal_with_their_gain_and_biases_at_zero(size):
    both = (Size(*size), Size(size[1], 5, gain=0.01))
    (weight, bias), (last, _) = networks.layers(networks.init(SEED, Stream.INIT_PHI, both), both)
    narrow = weight.T @ weight if size[0] >= size[1] else weight @ weight.T
    torch.testing.assert_close(narrow, 2 * torch.eye(min(size)), rtol=0, atol=1e-5)
    assert not bias.any()
    torch.testing.assert_close(torch.linalg.svdvals(last), torch.full((5,), 0.01), rtol=1e-4, atol=0)


def test_players_and_seeds_start_differently():
    layer = (Size(20, 10),)
    one = networks.init(SEED, Stream.INIT_PHI, layer)
    assert not torch.equal(one, networks.init(SEED, Stream.INIT_THETA, layer))
    assert not torch.equal(one, networks.init(SEED + 1, Stream.INIT_PHI, layer))


def test_l1_normalise_gives_each_row_a_mean_absolute_value_of_one_and_leaves_zeros():
    x = torch.tensor([[1.0, -3.0], [0.0, 0.0]])
    torch.testing.assert_close(networks.l1_normalise(x), torch.tensor([[0.5, -1.5], [0.0, 0.0]]))


@pytest.mark.parametrize("head", ["streams", "shared"])
def test_a_dueling_head_is_a_value_and_advantages_whose_mean_is_zero(head):
    config = RunConfig(task="minatar/breakout", algorithm="dueling_dqn", dueling_head=head)
    shape = networks.shape_of(config, observation_shape=(10, 10, 4), num_actions=3)
    official = [(128, 64), (64, 1), (128, 64), (64, 3)]
    assert sizes(shape.theta) == (official if head == "streams" else [(128, 128), (128, 1), (128, 3)])
    layers = list(networks.layers(networks.init(SEED, Stream.INIT_THETA, shape.theta), shape.theta))
    z = noise.normal(SEED, 0, Stream.INIT_PHI, (7, 128))
    before = networks.control(tuple(layers), z, config, 3)
    weight, bias = layers[-1]
    layers[-1] = weight, bias + 5  # the same advantage for every action is none
    torch.testing.assert_close(networks.control(tuple(layers), z, config, 3), before)
    place = 1
    weight, bias = layers[place]
    layers[place] = weight, bias + 5
    torch.testing.assert_close(networks.control(tuple(layers), z, config, 3), before + 5)


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
    torch.testing.assert_close(networks.perception((first, *rest), picture, config), z, rtol=1e-4, atol=1e-5)


def test_the_cnn_wants_pictures():
    with pytest.raises(ValueError, match="network: cnn needs observations"):
        networks.shape_of(RunConfig(task="CartPole-v1", network="cnn"), observation_shape=(4,), num_actions=2)
