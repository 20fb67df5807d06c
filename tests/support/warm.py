"""A small run, made where this module is imported: the fork server of `small_runs`.

The processes forked from it find all that a first run has to import and to cache, which takes more
time than the run.
"""

import contextlib
import gc
import io
import tempfile
from pathlib import Path

from tests.support.small_runs import quick, small, text_file

with (
    tempfile.TemporaryDirectory(prefix="gmlp-tests-") as folder,
    contextlib.redirect_stdout(io.StringIO()),
    contextlib.redirect_stderr(io.StringIO()),
):
    status = quick(*small(text_file(Path(folder)), Path(folder) / "run", data=folder))
assert status == 0
# Forked processes share the memory of what is here as long as nobody writes to it, as the garbage
# collector does.
gc.collect()
gc.freeze()
