"""Profiles of hypothesis for all tests.

* `derandomised`, the default: the same 20 examples in every run, so a failure is never chance
* `random`: as many, but other examples in every run:
  `pytest -m hypothesis --hypothesis-profile=random --hypothesis-seed=1`
* `long`: ten times as many random examples; `pytest -m slow` runs the property tests with it

No profile has a deadline, since the first call of torch in a process is slow.
"""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile(
    "derandomised", derandomize=True, deadline=None, max_examples=20, database=None
)
settings.register_profile("random", deadline=None, max_examples=20, print_blob=True)
settings.register_profile("long", deadline=None, max_examples=200, print_blob=True)
settings.load_profile("derandomised")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Spares the garbage collector the modules and tests, which live until the end.

    Reading them again and again takes a fifth of the time to collect the tests, and 0.4 s for each
    full collection after that.
    """
    gc.disable()
    result = yield
    gc.enable()
    gc.collect()
    gc.freeze()
    return result
