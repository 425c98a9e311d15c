"""Optuna's samplers, as a search names them."""

from optuna import samplers
from optuna.samplers import BaseSampler

from scorer_core.identity import digest
from sweeps.search import Search


def make_sampler(search: Search, number: int) -> BaseSampler:
    """The sampler that draws trial `number`.

    It is made anew for each trial, from what the storage knows and a seed of its own: whichever worker draws a trial,
    and however often workers died before, no stream of random numbers is begun twice. Trials in flight are taken into
    account as Optuna recommends for parallel search: TPE and GP both hold a constant lie for them.
    """
    seed = int(digest([search.sampler_seed, number])[:8], 16)
    if search.sampler == "tpe":
        return samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    if search.sampler == "gp":
        return samplers.GPSampler(seed=seed, warn_independent_sampling=False)
    if search.sampler == "cmaes":
        return samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    if search.sampler == "qmc":  # one sequence for all: its place in it is kept in the storage
        return samplers.QMCSampler(
            seed=search.sampler_seed, scramble=True, warn_independent_sampling=False, warn_asynchronous_seeding=False
        )
    if search.sampler == "grid":
        grid = {field: dimension.values for field, dimension in search.space.items()}
        return samplers.GridSampler(grid, seed=search.sampler_seed)
    return samplers.RandomSampler(seed=seed)
