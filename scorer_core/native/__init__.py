"""A traced function of ONE run as machine code for a CPU: no compiler but LLVM, which numba brings along."""
