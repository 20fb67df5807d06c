"""The usage example in the docstring of each public class of the library runs."""

import inspect
import re
import textwrap

import pytest
import torch
from torch import nn

import labml_gmlp

EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# These classes live in labml_gmlp/blocks and labml_gmlp/models.
CLASSES = [
    value
    for name in labml_gmlp.__all__
    if inspect.isclass(value := getattr(labml_gmlp, name))
    and value.__module__.startswith(("labml_gmlp.blocks", "labml_gmlp.models"))
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_each_class_has_an_example_that_uses_it_and_runs(cls):
    [example] = EXAMPLE.findall(inspect.getdoc(cls))
    assert f"{cls.__name__}(" in example
    names = {name: getattr(labml_gmlp, name) for name in labml_gmlp.__all__}
    names |= {"torch": torch, "nn": nn}
    exec(textwrap.dedent(example), names)
    # A comment behind the last line is the shape of its result.
    promised = re.findall(r"^(\w+) = .*  # (\[.*\])$", example, re.MULTILINE)
    for name, shape in promised:
        assert str(list(names[name].shape)) == shape
    # The parts of a block fit together.
    if "block = GMLPBlock(" in example:
        assert names["block"](torch.randn(2, 100, 64)).shape == (2, 100, 64)
