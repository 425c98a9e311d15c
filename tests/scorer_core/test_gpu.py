"""The same promises on a GPU, where the step is a captured graph; skipped where there is none."""

import pytest
import torch
from torch.fx import GraphModule

from scorer_core.config import RunConfig
from scorer_core.pack import TF32_SINCE, Pack, set_matmul_precision
from scorer_core.support.errors import RecordError
from tests.scorer_core.test_pack import LANES, bits, config, rows_of, same

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


def train(configs: list[RunConfig], device: str, vector_steps: int = 60, compiled: bool = False) -> tuple[Pack, list]:
    pack, rows = Pack(configs, torch.device(device), compiled), []
    while pack.vector_step < vector_steps:
        pack.step()
        if pack.log_is_due:
            rows.append(pack.log(0.0))
    return pack, rows


@needs_gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # by the compiler
def test_on_a_gpu_the_first_updates_agree_with_the_cpu(compiled):
    """Later ones need not: another last bit of a value is, one day, another action."""
    configs = [config(**lane) for lane in LANES]
    ours, _ = train(configs, "cuda", 10, compiled)
    reference, _ = train(configs, "cpu", 10)
    assert reference.players.updates.min() >= 4
    torch.testing.assert_close(ours.players.phi.cpu(), reference.players.phi, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.players.theta.cpu(), reference.players.theta, rtol=1e-3, atol=1e-4)
    assert torch.equal(ours.memory.observation.cpu(), reference.memory.observation)


@needs_gpu
def test_on_a_gpu_a_restored_pack_goes_on_bit_for_bit():
    configs = [config(**lane) for lane in LANES[:3]]
    whole, rows = train(configs, "cuda", 70)
    first, _ = train(configs, "cuda", 37)
    second = Pack(configs, torch.device("cuda"))
    second.restore(first.state())
    later = []
    while second.vector_step < 70:
        second.step()
        if second.log_is_due:
            later.append(second.log(0.0))
    for lane in range(3):
        assert same(bits(second, lane), bits(whole, lane))
        assert rows_of(later, lane) == rows_of(rows, lane)[1:]


@needs_gpu
def test_on_a_gpu_a_lane_that_is_not_a_number_leaves_the_others_bits_alone():
    configs = [config(**lane) for lane in LANES]
    whole, _ = train(configs, "cuda")
    poisoned = Pack(configs, torch.device("cuda"))
    while poisoned.vector_step < 60:
        if poisoned.vector_step == 20:
            poisoned.players.theta[1] = float("nan")
        poisoned.step()
    for lane in (0, 2, 3, 4):
        assert same(bits(poisoned, lane), bits(whole, lane))


def test_a_recorded_step_holds_no_constant_that_a_graph_would_have_to_fetch_from_the_host(traced):
    pack, _ = train([config()], "cpu", 10)
    for name, recorded in pack._functions.items():
        assert isinstance(recorded, GraphModule)
        constants = [node.target for node in recorded.graph.nodes if node.op == "get_attr"]
        assert constants == [], name


@needs_gpu
def test_on_a_gpu_tf32_rounds_the_factors_of_matrix_products_and_float32_does_not():
    if torch.cuda.get_device_capability() < TF32_SINCE:
        pytest.skip("this GPU has no TF32")
    a, b = (torch.rand(256, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    errors = []
    for matmul in ("float32", "tf32"):
        set_matmul_precision(matmul, torch.device("cuda"))
        product = (a.float().cuda() @ b.float().cuda()).double().cpu()
        errors.append(float(((product - a @ b) / (a @ b)).abs().max()))
    assert errors[0] < 1e-5 < errors[1] < 1e-2


def test_tf32_on_a_cpu_is_refused_because_float32_is_another_run():
    assert config(matmul="tf32").run_id != config().run_id == config(matmul="float32").run_id
    with pytest.raises(
        RecordError, match=r"^matmul: tf32 needs a GPU of compute capability 8\.0 or newer, not this CPU"
    ):
        Pack([config(matmul="tf32")], torch.device("cpu"))
