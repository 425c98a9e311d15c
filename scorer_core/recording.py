"""A function of tensors as the flat list of operations it performs, to be performed again without Python's share.

vmap and grad run in Python; at these network sizes they would cost more than the arithmetic. The recorded operations
are the same, in the same order, hence the same bits. What is recorded must not depend on the values of tensors.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
RESHAPING = {aten.view.default, aten._unsafe_view.default, aten.expand.default}


def record(function: Callable[..., Any], arguments: tuple[Any, ...]) -> GraphModule:
    """`function` of one set of `arguments` (trees of tensors), to be called with others of the same shapes."""
    recorded = make_fx(lambda *inputs: function(*inputs))(*arguments)
    for node in recorded.graph.nodes:
        if node.target in RESHAPING and node.meta["val"].shape == node.args[0].meta["val"].shape:
            node.replace_all_uses_with(node.args[0])
    recorded.graph.eliminate_dead_code()
    recorded.recompile()
    return recorded
