"""Call machine code on the lanes of a pack: made at the first call, or found in the cache."""

import ctypes
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten, treespec_dumps, treespec_loads

import scorer_core.native.layers
import scorer_core.native.reductions
import scorer_core.native.tensors  # noqa: F401, these three register what they lower
from scorer_core.native.code_cache import CodeCache
from scorer_core.native.lowering import ALIGNMENT, NAME, UnsupportedError, lower
from scorer_core.support.errors import reason
from scorer_core.tracing import trace

SIGNATURE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5, ctypes.c_int64)


class MachineCode(NamedTuple):
    """A compiled function, and what a caller must know of it."""

    code: bytes  # an object file
    scratch: int  # bytes
    results: list[Any]  # of pairs: shape of one run, and dtype
    tree: str  # of the results


class Program:
    """A pure function of one run, on trees of tensors with the lanes first.

    All lanes use one copy of the code, one after another: a lane has the bits that it would have alone, and the code
    does not depend on their number.
    """

    def __init__(
        self,
        name: str,
        one_run: Callable[..., Any],
        arguments: tuple[Any, ...],
        in_place: bool = False,
        sparse: Collection[int] = (),
        cached: CodeCache | None = None,
    ):
        """Compile `one_run` for arguments like these, or find it in the cache.

        Args:
            name: of the function, for the cache.
            one_run: its results are tensors. It is traced, so it must not depend on the values of tensors.
            arguments: of all lanes.
            in_place: the first of two results overwrites the first argument, which has the same form.
            sparse: numbers of the arguments of which most elements are zero.
            cached: code of earlier processes.

        Raises:
            UnsupportedError: if an operation of the function is unknown to this package.
        """
        leaves = tree_leaves(arguments)
        overwritten = len(tree_leaves(arguments[0])) if in_place else 0
        form = [(list(leaf.shape[1:]), str(leaf.dtype)) for leaf in leaves]
        key = repr((name, form, in_place, sorted(sparse)))
        made = cached.find(key, MachineCode) if cached else None
        if made is None:
            made = compiled(one_run, arguments, overwritten, sparse)
            if cached:
                cached.keep(key, made)
        self._overwritten, self._lanes = overwritten, len(leaves[0])
        self._inputs, self._outputs = Table(len(leaves)), Table(overwritten + len(made.results))
        self._arguments, first = [], 0
        for argument in arguments:
            number = len(tree_leaves(argument))
            self._arguments.append(Argument(self._inputs, leaves[first : first + number], first, first < overwritten))
            first += number
        self._results = [(tuple(shape), getattr(torch, dtype)) for shape, dtype in made.results]
        self._tree = treespec_loads(made.tree)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(made.code))
        self._engine.finalize_object()
        self._function = SIGNATURE(self._engine.get_function_address(NAME))
        self._memory = np.zeros(made.scratch + ALIGNMENT, np.uint8)
        self._scratch = -(-self._memory.ctypes.data // ALIGNMENT) * ALIGNMENT

    def __call__(self, *arguments: Any) -> Any:
        """The results, in new tensors; `in_place`, the first is the first argument, overwritten."""
        for argument, known in zip(arguments, self._arguments, strict=True):
            known.set(argument)
        n = self._overwritten
        self._outputs.addresses[:n], self._outputs.strides[:n] = self._inputs.addresses[:n], self._inputs.strides[:n]
        own = [torch.empty((self._lanes, *shape), dtype=dtype) for shape, dtype in self._results]
        for k, tensor in enumerate(own, n):
            self._outputs.set(k, tensor)
        self._function(*self._inputs.pointers, *self._outputs.pointers, self._scratch, self._lanes)
        found = own[0] if self._tree.is_leaf() else tree_unflatten(own, self._tree)
        return (arguments[0], found) if n else found


class Table:
    """For each of `count` tensors the address of its first lane, and the bytes from one lane to the next."""

    def __init__(self, count: int):
        self.addresses, self.strides = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.pointers = self.addresses.ctypes.data, self.strides.ctypes.data

    def set(self, k: int, tensor: Tensor) -> None:
        self.addresses[k], self.strides[k] = tensor.data_ptr(), tensor.stride(0) * tensor.element_size()


class Argument:
    """One argument of a program, a tree of tensors, which stand in a table from number `first` on."""

    def __init__(self, table: Table, like: Sequence[Tensor], first: int, is_overwritten: bool):
        self._table, self._first, self._is_overwritten = table, first, is_overwritten
        self._form = [(leaf.shape, leaf.dtype) for leaf in like]
        self._known: Any = None
        self._leaves: list[Tensor] = []  # a reference, so that their memory is not freed

    def set(self, argument: Any) -> None:
        """Enter its tensors, unless it is the one of the last call: most arguments are the same objects each time.

        Raises:
            ValueError: if they do not have the shapes and dtypes for which the program was made, or if an argument that
                is overwritten is not contiguous.
        """
        if argument is self._known:
            return
        leaves = [argument] if isinstance(argument, Tensor) else tree_leaves(argument)  # a shortcut: trees are slow
        if [(leaf.shape, leaf.dtype) for leaf in leaves] != self._form:
            raise ValueError(f"a program for {self._form} was called with {[(x.shape, x.dtype) for x in leaves]}")
        self._leaves = [leaf.contiguous() for leaf in leaves]
        for k, leaf in enumerate(self._leaves, self._first):
            self._table.set(k, leaf)
        # A copy would be out of date at the next call.
        is_copied = any(leaf is not given for leaf, given in zip(self._leaves, leaves, strict=True))
        if is_copied and self._is_overwritten:
            raise ValueError("an argument that is overwritten is not contiguous")
        self._known = None if is_copied else argument


def compiled(
    one_run: Callable[..., Any], arguments: tuple[Any, ...], overwritten: int, sparse: Collection[int]
) -> MachineCode:
    """The machine code of `one_run` for `arguments`, of which the first `overwritten` leaves are (see `Program`)."""
    leaves, form = tree_flatten(tree_map(lambda tensor: tensor[0], arguments))
    trees = []

    def flat(*inputs: Tensor) -> list[Tensor]:
        results = one_run(*tree_unflatten(list(inputs), form))
        updated = []
        if overwritten:
            first, results = results
            updated = tree_leaves(first)
        own, tree = tree_flatten(results)
        trees.append(treespec_dumps(tree))
        return [*updated, *own]

    graph = trace(flat, tuple(leaves))
    try:
        lowered = lower(graph, {k: k for k in range(overwritten)}, sparse)
        module = llvm.parse_assembly(str(lowered.module))
    except UnsupportedError:
        raise
    except Exception as error:  # an operation with arguments that this package did not expect
        raise UnsupportedError(f"an operation of it: {reason(error)}") from error
    machine = target_machine()
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    # Vectors and the order of sums are written already; LLVM's usual passes take 20 times as long, for the same speed.
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    return MachineCode(machine.emit_object(module), lowered.scratch, _results(graph)[overwritten:], trees[-1])


def _results(graph: GraphModule) -> list[tuple[tuple[int, ...], str]]:
    output = next(node for node in graph.graph.nodes if node.op == "output")
    tensors = [node.meta["val"] for node in output.args[0]]
    return [(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for tensor in tensors]


def target_machine() -> llvm.TargetMachine:
    """Code for the processor of this machine. An engine that gets one owns it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2, jit=True
    )


def processor() -> str:
    """What the code is made for: name and features of the CPU."""
    return f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
