"""Optuna's samplers, by their names in a search."""

from optuna import samplers
from optuna.samplers import BaseSampler

from scorer_core.identity import digest
from sweeps.search import Search


def make_sampler(search: Search, number: int) -> BaseSampler:
    """The sampler that draws trial `number`.

    Each trial has a new sampler with its own seed, so no two trials draw the same random numbers, whichever worker
    draws them and however often workers were killed. Running trials are treated as Optuna recommends for parallel
    search: with a constant liar (TPE and GP).
    """
    seed = int(digest([search.sampler_seed, number])[:8], 16)
    if search.sampler == "tpe":
        return samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    if search.sampler == "gp":
        return samplers.GPSampler(seed=seed, warn_independent_sampling=False)
    if search.sampler == "cmaes":
        return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    if search.sampler == "qmc":  # one sequence for all trials; the storage keeps the position in it
        return samplers.QMCSampler(
            seed=search.sampler_seed, scramble=True, warn_independent_sampling=False, warn_asynchronous_seeding=False
        )
    if search.sampler == "grid":
        grid = {field: dimension.values for field, dimension in search.space.items()}
        return samplers.GridSampler(grid, seed=search.sampler_seed)
    return samplers.RandomSampler(seed=seed)
