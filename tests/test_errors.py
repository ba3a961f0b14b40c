"""The tree of errors, and the words they say."""

from __future__ import annotations

import re

import pytest

from latentface import errors


def test_the_tree_is_as_it_is_drawn():
    drawn = re.findall(r"^[ |]*[|`]-- (\w+)", errors.__doc__, re.M)
    real = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.LatentfaceError)}
    assert sorted([*drawn, "LatentfaceError"]) == sorted(real)
    parents = {"PictureError": "InputError", "UnknownNameError": "InputError", "UnsafeFileError": "WeightsError"}
    parents["WrongFileError"] = "WeightsError"
    for name in drawn:
        assert getattr(errors, name).__bases__[0].__name__ == parents.get(name, "LatentfaceError")


def test_an_unknown_name_says_what_there_is_and_what_was_meant():
    error = errors.UnknownNameError("method", "rlce", ["rlse", "bilinear"])
    assert str(error) == "there is no method 'rlce'; did you mean 'rlse'? (there are: bilinear, rlse)"
    assert "did you mean" not in str(errors.UnknownNameError("method", "zzz", ["rlse"]))


def test_errors_can_be_caught_as_the_builtin_ones():
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.MissingExtraError, ImportError)


def test_a_missing_module_names_its_extra():
    assert errors.require("json", "web", "the page").__name__ == "json"
    with pytest.raises(errors.MissingExtraError, match=r"the page needs no_such.*pip install 'latentface\[web\]'"):
        errors.require("no_such.module", "web", "the page")
