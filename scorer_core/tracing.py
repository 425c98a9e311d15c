"""A function of tensors as the flat list of operations it performs, to be performed again without Python's share.

vmap and grad run in Python; at these network sizes they would cost more than the arithmetic. The recorded operations
are the same, in the same order, hence the same bits. What is recorded must not depend on the values of tensors.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
WARM_UPS = 3  # compilers and libraries allocate and tune at their first calls, which a graph must not hold
RESHAPING = {aten.view.default, aten._unsafe_view.default, aten.expand.default}


def trace(function: Callable[..., Any], arguments: tuple[Any, ...]) -> GraphModule:
    """`function` of one set of `arguments` (trees of tensors), to be called with others of the same shapes."""
    recorded = make_fx(lambda *inputs: function(*inputs))(*arguments)
    for node in recorded.graph.nodes:
        if node.target in RESHAPING and node.meta["val"].shape == node.args[0].meta["val"].shape:
            node.replace_all_uses_with(node.args[0])
    recorded.graph.eliminate_dead_code()
    recorded.recompile()
    return recorded


class CudaGraph:
    """A function of CUDA tensors, pure and recorded, as one graph: no launch of an operation waits for the host.

    A graph reads and writes fixed places. Arguments that lie where they did at capture (the replay, which is never
    copied) are read there, others are copied there first. The results' places are those of the call before.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]):
        self._places: list[Tensor] = tree_leaves(arguments)  # held, so that the graph's memory stays its own
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                function(*arguments)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._results = function(*arguments)

    def __call__(self, *arguments: Any) -> Any:
        for place, argument in zip(self._places, tree_leaves(arguments), strict=True):
            if argument.data_ptr() != place.data_ptr():
                place.copy_(argument)
        self._graph.replay()
        return self._results
