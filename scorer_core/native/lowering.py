"""From a traced function of one run to one LLVM function for all its lanes.

An operation on single elements becomes part of the loop that reads it, unless several operations read it. Everything
else, such as a matrix product, is written to a scratch that all lanes use in turn.
"""

import math
import operator
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import torch
from llvmlite import ir
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from scorer_core.native import operations
from scorer_core.native.code import I8, I64, IN_REGISTER, POINTER, WIDTH, Code, Index, Register, integer
from scorer_core.native.values import ZERO, Array, Counted, Pointwise, Position, Scalar, Value, contiguous_strides

aten = torch.ops.aten
ALIGNMENT = 64
NAME = "program"
Traced = Any  # a torch.fx.Node: its arguments have no type that helps
HANDLERS: dict[Any, Callable[["Lowering", Traced], Any]] = {}  # filled by the modules beside this one


class UnsupportedError(Exception):
    """An operation that has no machine code here."""


class Lowered(NamedTuple):
    """A module with the function NAME(inputs, input strides, outputs, output strides, scratch, lanes)."""

    module: ir.Module
    scratch: int  # bytes


class Input:
    """An input of one lane."""

    def __init__(self, lowering: "Lowering", node: Traced, pointer: Register):
        self._lowering, self._node, self._pointer = lowering, node, pointer

    def pointer(self) -> Register:
        self._lowering.last_access[self._node] = self._lowering.moment
        return self._pointer


class Output(NamedTuple):
    """An output of one lane."""

    where: Register

    def pointer(self) -> Register:
        return self.where


class Buffer:
    """A part of the scratch, in use from its first to its last access."""

    def __init__(self, lowering: "Lowering", number: int, offset: int):
        self._lowering, self._number, self._offset = lowering, number, offset

    def pointer(self) -> Register:
        self._lowering.last_access[self._number] = self._lowering.moment
        return self._lowering.code.builder.gep(self._lowering.scratch, [integer(self._offset)], source_etype=I8)


def lower(graph: GraphModule, in_place: dict[int, int], sparse: Collection[int] = ()) -> Lowered:
    """The module of `graph`.

    Args:
        graph: of operations on tensors of one run; its inputs are contiguous.
        in_place: for an input that is overwritten by an output: its number, and that of the output.
        sparse: the numbers of inputs of which most elements are zero.

    Raises:
        UnsupportedError: if an operation is unknown here.
    """
    first = Lowering(graph, in_place, sparse, {})
    first.run()
    second = Lowering(graph, in_place, sparse, first.last_access)
    second.run()
    return Lowered(second.module, second.scratch_bytes)


class Lowering:
    """One walk over the graph. `frees`: the moment of the last access to each buffer, from an earlier walk."""

    def __init__(self, graph: GraphModule, in_place: dict[int, int], sparse: Collection[int], frees: dict[Any, int]):
        self.nodes = list(graph.graph.nodes)
        self.in_place = in_place
        self.sparse = _sparse(self.nodes, sparse)
        self.frees = frees
        self.last_access: dict[Any, int] = {}
        self.module = ir.Module()
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [POINTER] * 5 + [I64]), NAME)
        self.inputs, self.input_strides, self.outputs, self.output_strides, self.scratch, self.lanes = function.args
        self.code = Code(function)
        self.values: dict[Traced, Any] = {}
        self.moment = 0
        self.scratch_bytes = 0
        self._buffers = 0
        self._free: list[tuple[int, int]] = []  # offset and size of parts of the scratch
        self._in_use: dict[int, tuple[int, int]] = {}
        self.destination: dict[Traced, tuple[Traced, int]] = {}  # of a part of a `cat`: the cat, and where
        self.cats: dict[Traced, Array] = {}

    def run(self) -> None:
        self._find_destinations()
        with self.code.loop(self.lanes) as lane:
            self.lane = lane
            placeholders = [node for node in self.nodes if node.op == "placeholder"]
            pointers = [self._pointer(self.inputs, self.input_strides, k) for k in range(len(placeholders))]
            for node, pointer in zip(placeholders, pointers, strict=True):
                tensor = node.meta["val"]
                shape = tuple(tensor.shape)
                self.values[node] = Array(Input(self, node, pointer), tensor.dtype, shape, contiguous_strides(shape))
            (output,) = (node for node in self.nodes if node.op == "output")
            self.returned: list[Traced] = list(output.args[0])
            self._overwritten = {to: placeholders[k] for k, to in self.in_place.items()}
            for node in self.nodes:
                self.moment += 1
                if node.op == "call_function":
                    self.values[node] = self._lowered(node)
                elif node.op not in ("placeholder", "output"):
                    raise UnsupportedError(node.op)
                self._release()
            self._write_outputs()
        self.code.builder.ret_void()

    def _pointer(self, table: Register, strides: Register, k: int) -> Register:
        build = self.code.builder
        base = build.load(self.code.address(table, k, POINTER), typ=POINTER)
        stride = build.load(self.code.address(strides, k, I64), typ=I64)
        return build.gep(base, [build.mul(stride, self.lane)], source_etype=I8)

    def _lowered(self, node: Traced) -> Any:
        tensors = [leaf for leaf in tree_leaves((node.args, node.kwargs)) if isinstance(leaf, Node)]
        for dtype in {tensor.dtype for one in [node, *tensors] for tensor in tree_leaves(one.meta["val"])}:
            if dtype not in IN_REGISTER:
                raise UnsupportedError(f"{node.target} of {dtype}")
        if node.target in HANDLERS:
            value = HANDLERS[node.target](self, node)
        elif node.target in operations.OF_RESULT or node.target in operations.OF_ARGUMENTS:
            value = self.pointwise(node)
        else:
            raise UnsupportedError(str(node.target))
        if not isinstance(value, Value) or isinstance(value, Array | Scalar | Counted):
            return value
        if math.prod(value.shape) == 1:
            return Scalar(value.at(self.code, (ZERO,) * len(value.shape)), value.dtype, value.shape)
        if node in self.sparse:  # computed again where it is not zero, which takes less time than its memory
            return self.stored(value) if self.sparse[node] is node else value
        return self.stored(value) if len(node.users) > 1 else value

    def zeros_of(self, node: Traced) -> Array | None:
        """An array in the order of this sparse `node` that is zero only where it is; None if the node is not sparse."""
        return self.values[self.sparse[node]] if node in self.sparse else None

    # --- memory ---

    def new_array(self, shape: Sequence[int], dtype: torch.dtype, node: Traced | None = None) -> Array:
        """An array in the scratch; or, for a `node` that is a part of a `cat`, its place there."""
        strides = contiguous_strides(shape)
        if node is not None and node in self.destination:
            cat, offset = self.destination[node]
            if cat not in self.cats:
                whole = cat.meta["val"]
                self.cats[cat] = self.new_array(tuple(whole.shape), whole.dtype)
            return Array(self.cats[cat].base, dtype, tuple(shape), strides, offset)
        return Array(self.new_buffer(math.prod(shape) * dtype.itemsize), dtype, tuple(shape), strides)

    def new_buffer(self, size: int) -> Buffer:
        size = max(ALIGNMENT, math.ceil(size / ALIGNMENT) * ALIGNMENT)
        number, self._buffers = self._buffers, self._buffers + 1
        fitting = min((part for part in self._free if part[1] >= size), key=operator.itemgetter(1), default=None)
        if fitting is None:
            offset, self.scratch_bytes = self.scratch_bytes, self.scratch_bytes + size
        else:
            self._free.remove(fitting)
            offset, rest = fitting[0], fitting[1] - size
            if rest:
                self._free.append((fitting[0] + size, rest))
        self._in_use[number] = offset, size
        return Buffer(self, number, offset)

    def _release(self) -> None:
        """Free the buffers that nothing accesses any more."""
        for number in [n for n in self._in_use if n in self.frees and self.frees[n] <= self.moment]:
            self._free.append(self._in_use.pop(number))
        self._free.sort()
        joined: list[tuple[int, int]] = []
        for offset, size in self._free:
            if joined and sum(joined[-1]) == offset:
                joined[-1] = joined[-1][0], joined[-1][1] + size
            else:
                joined.append((offset, size))
        self._free = joined

    def _find_destinations(self) -> None:
        for cat in (node for node in self.nodes if node.target is aten.cat.default):
            parts, dim = cat.args[0], cat.args[1] if len(cat.args) > 1 else 0
            offset = 0
            for part in parts:
                tensor = part.meta["val"]
                if dim == 0 and tensor.dim() == 1:
                    source = part
                    while source.target in RESHAPING and len(source.users) == 1:
                        source = source.args[0]
                    if source.target in WRITING and len(source.users) == 1:
                        self.destination[source] = cat, offset
                offset += tensor.numel()

    # --- values ---

    def value(self, argument: Any, dtype: torch.dtype | None = None) -> Value:
        """A node or a Python number as a Value, converted to `dtype`."""
        if isinstance(argument, Node):
            found = self.values[argument]
            return found if dtype is None or found.dtype == dtype else self.converted(found, dtype)
        if dtype is None:
            dtype = torch.float32 if isinstance(argument, float) else torch.int64
        return Scalar(self.code.constant(argument, dtype), dtype, ())

    def converted(self, value: Value, dtype: torch.dtype) -> Value:
        if isinstance(value, Scalar):
            return Scalar(self.code.convert(value.value, dtype), dtype, value.shape)
        return Pointwise(lambda code, x: code.convert(x, dtype), (value,), dtype, value.shape)

    def pointwise(self, node: Traced) -> Value:
        tensor = node.meta["val"]
        arguments = [argument for argument in node.args if argument is not None]
        if node.target is aten.clamp.default and len(arguments) != 3:
            arguments = [node.args[0], -math.inf if node.args[1] is None else node.args[1], math.inf]
        if node.target in operations.OF_RESULT:
            element, dtype = operations.OF_RESULT[node.target], tensor.dtype
        else:
            element = operations.OF_ARGUMENTS[node.target]
            samples = [a.meta["val"] if isinstance(a, Node) else a for a in arguments]
            dtype = torch.result_type(*samples)
        if node.target not in operations.ALLOWED[dtype]:
            raise UnsupportedError(f"{node.target} of {dtype}")
        values = tuple(self.value(argument, dtype) for argument in arguments)
        return Pointwise(element, values, tensor.dtype, tuple(tensor.shape))

    def stored(self, value: Value, into: Array | None = None) -> Array:
        """`value` in memory: `into`, or a new array."""
        if into is None:
            if isinstance(value, Array):
                return value
            into = self.new_array(value.shape, value.dtype)
        target: Value = into
        dim = len(value.shape) - 2
        while dim >= 0:
            merged, place = value.merged(dim), target.merged(dim)
            if merged is not None and place is not None:
                value, target = merged, place
            dim -= 1
        assert isinstance(target, Array)

        def write(position: Position, width: int) -> None:
            target.put(self.code, position, self.code.splat(value.at(self.code, position), width))

        self.each(target.shape, write)
        return into

    def each(self, shape: Sequence[int], body: Callable[[Position, int], None], outer: Position = ()) -> None:
        """`body` at every position of `shape`: along the last dimension WIDTH at a time."""
        if not shape:
            body(outer, 1)
            return
        if len(shape) > 1:
            with self.code.loop(shape[0]) as i:
                self.each(shape[1:], body, (*outer, Index(i)))
            return
        length = shape[0]
        whole = length // WIDTH * WIDTH
        if whole:
            with self.code.loop(whole, step=WIDTH) as i:
                body((*outer, Index(i, WIDTH)), WIDTH)
        if whole == length - 1:
            body((*outer, Index(integer(whole))), 1)
        elif whole < length:
            with self.code.loop(length, start=whole) as i:
                body((*outer, Index(i)), 1)

    def _write_outputs(self) -> None:
        self.moment += 1
        values = [self.values[node] for node in self.returned]
        if self.in_place:  # whatever is read from an input is read before any input is overwritten
            for k, value in enumerate(values):
                in_scratch = isinstance(value, Array) and isinstance(value.base, Buffer)
                if not isinstance(value, Scalar) and not in_scratch and not self._is_in_place(k):
                    values[k] = self.stored(value, self.new_array(value.shape, value.dtype))
        for k, value in enumerate(values):
            if not self._is_in_place(k):
                pointer = Output(self._pointer(self.outputs, self.output_strides, k))
                self.stored(value, Array(pointer, value.dtype, value.shape, contiguous_strides(value.shape)))

    def _is_in_place(self, k: int) -> bool:
        """Is output `k` already where the input was that it overwrites?"""
        value, old = self.values[self.returned[k]], self.values.get(self._overwritten.get(k))
        if not isinstance(value, Array) or not isinstance(old, Array) or value.base is not old.base:
            return False
        return (value.shape, value.strides, value.offset) == (old.shape, old.strides, old.offset)

    def new_over(self, old: Array, node: Traced, item: int, argument: Traced) -> Array:
        """An array for item `item` of `node`: `old`, the `argument` of the node, if nothing reads that afterwards."""
        if not self._overwrites(node, item, argument):
            return self.new_array(old.shape, old.dtype)
        self._buffers += 1  # the other walk may have one here: the numbers must be the same
        return old

    def _overwrites(self, node: Traced, item: int, argument: Traced) -> bool:
        """May item `item` of `node` be written over `argument`? If it replaces it, and nothing reads it afterwards."""
        results = [user for user in node.users if user.target is operator.getitem and user.args[1] == item]
        places = [k for k, returned in enumerate(self.returned) if results and returned is results[0]]
        if len(places) != 1 or self._overwritten.get(places[0]) is not argument:
            return False
        return self.frees.get(argument, math.inf) <= self.moment


def _sparse(nodes: Sequence[Traced], inputs: Collection[int]) -> dict[Traced, Traced]:
    """The nodes that are zero wherever one of these inputs is, or wherever rows of it are: with this input or rows."""
    placeholders = [node for node in nodes if node.op == "placeholder"]
    found = {placeholders[k]: placeholders[k] for k in inputs}
    for node in nodes:
        if node.op != "call_function" or not isinstance(node.args[0], Node) or node.args[0] not in found:
            continue
        if node.args[0].target is aten.t.default:  # a product handles one transposition, as the last operation
            continue
        if node.target is aten.index.Tensor:
            found[node] = node
        elif node.target in KEEPING_ZEROS and node.meta["val"].numel() == node.args[0].meta["val"].numel():
            found[node] = found[node.args[0]]
    return found


RESHAPING = {aten.view.default, aten._unsafe_view.default, aten.reshape.default}
KEEPING_ZEROS = RESHAPING | {aten._to_copy.default, aten.div.Tensor, aten.t.default}  # unless it divides by zero
WRITING = {aten.mm.default, aten.sum.dim_IntList}


def handles(*targets: Any) -> Callable[[Callable[[Lowering, Traced], Any]], Any]:
    def register(function: Callable[[Lowering, Traced], Any]) -> Any:
        HANDLERS.update(dict.fromkeys(targets, function))
        return function

    return register


def shape_of(node: Traced) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def dtype_of(node: Traced) -> torch.dtype:
    return node.meta["val"].dtype
