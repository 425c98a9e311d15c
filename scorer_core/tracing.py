"""Trace a function of tensors into its list of operations, which then run without the Python code of the function.

vmap and grad run in Python; for networks of this size they would cost more than the arithmetic. The traced operations
are the same and in the same order, so they give the same bits. They must not depend on the values of tensors.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_leaves

aten = torch.ops.aten
WARM_UPS = 3  # compilers and libraries allocate and tune in their first calls, which must not be in the graph
RESHAPING = {aten.view.default, aten._unsafe_view.default, aten.expand.default}


def trace(function: Callable[..., Any], arguments: tuple[Any, ...]) -> GraphModule:
    """`function`, traced with `arguments` (trees of tensors), for arguments of the same shapes."""
    traced = make_fx(lambda *inputs: function(*inputs))(*arguments)
    for node in traced.graph.nodes:
        if node.target in RESHAPING and node.meta["val"].shape == node.args[0].meta["val"].shape:
            node.replace_all_uses_with(node.args[0])
    _merge_equal(traced.graph)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


def _merge_equal(graph: Graph) -> None:
    """Compute the same operation on the same tensors once: the leader and the follower may see the same features."""
    calls = [node for node in graph.nodes if node.op == "call_function"]
    if any(isinstance(node.target, OpOverload) and node.target._schema.is_mutable for node in calls):
        return
    known: dict[Any, Node] = {}
    for node in calls:
        leaves, tree = tree_flatten((node.args, node.kwargs))
        key = node.target, str(tree), tuple((type(leaf), leaf) for leaf in leaves)
        if key in known:
            node.replace_all_uses_with(known[key])
        else:
            known[key] = node


class CudaGraph:
    """A pure, traced function of CUDA tensors as one CUDA graph: no operation waits for the host.

    A graph reads and writes fixed addresses. Arguments that are at the address of the capture (the replay, which is
    never copied) are read there; others are copied there first. A call overwrites the results of the call before.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]):
        self._inputs: list[Tensor] = tree_leaves(arguments)  # a reference, so that their memory is not freed
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                function(*arguments)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._results = function(*arguments)

    def __call__(self, *arguments: Any) -> Any:
        for captured, argument in zip(self._inputs, tree_leaves(arguments), strict=True):
            if argument.data_ptr() != captured.data_ptr():
                captured.copy_(argument)
        self._graph.replay()
        return self._results
