import pytest
import torch

from scorer_core import networks
from scorer_core.config import RunConfig
from scorer_core.noise import Stream

SEED = torch.tensor(3)


def test_the_paper_s_minatar_networks_have_its_sizes():
    shape = networks.shape_of(RunConfig(task="minatar/breakout"), inputs=400, num_actions=3)
    assert shape.phi == ((400, 128), (128, 128))
    assert shape.theta == ((128, 128), (128, 3))


def test_layers_are_views_that_flatten_gives_back():
    sizes = ((4, 3), (3, 2))
    vector = torch.arange(4.0 * 3 + 3 + 3 * 2 + 2)
    layers = networks.layers(vector, sizes)
    assert [(w.shape, b.shape) for w, b in layers] == [((4, 3), (3,)), ((3, 2), (2,))]
    assert torch.equal(networks.flatten(layers), vector)
    assert layers[0][0].data_ptr() == vector.data_ptr()


@pytest.mark.parametrize("size", [(40, 7), (7, 40)])
def test_weights_start_orthogonal_with_their_gain_and_biases_at_zero(size):
    vector = networks.init(SEED, Stream.INIT_PHI, (size, (size[1], 5)), last_gain=0.01)
    (weight, bias), (last, _) = networks.layers(vector, (size, (size[1], 5)))
    narrow = weight.T @ weight if size[0] >= size[1] else weight @ weight.T
    torch.testing.assert_close(narrow, 2 * torch.eye(min(size)), rtol=0, atol=1e-5)
    assert not bias.any()
    torch.testing.assert_close(torch.linalg.svdvals(last), torch.full((5,), 0.01), rtol=1e-4, atol=0)


def test_players_and_seeds_start_differently():
    sizes = ((20, 10),)
    one = networks.init(SEED, Stream.INIT_PHI, sizes, 1.0)
    assert not torch.equal(one, networks.init(SEED, Stream.INIT_THETA, sizes, 1.0))
    assert not torch.equal(one, networks.init(SEED + 1, Stream.INIT_PHI, sizes, 1.0))


def test_l1_normalise_gives_each_row_a_mean_absolute_value_of_one_and_leaves_zeros():
    x = torch.tensor([[1.0, -3.0], [0.0, 0.0]])
    torch.testing.assert_close(networks.l1_normalise(x), torch.tensor([[0.5, -1.5], [0.0, 0.0]]))
