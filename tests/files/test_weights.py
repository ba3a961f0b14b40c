"""Our files of weights: how their numbers are kept."""

import pytest
import torch
from safetensors.torch import load_file

from latentface.errors import WeightsError
from latentface.io.weights import NARROW, read_tensors, write_weights


def test_numbers_have_16_bits_and_32_or_8_where_it_is_said(tmp_path):
    path = tmp_path / "w.safetensors"
    values = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    tensors = {"usual": values, "wide": values, "narrow": values, "large": 1000 * values, "whole": torch.arange(3)}
    write_weights(path, "encoder", tensors, {}, {}, wide=["wide"], narrow=["narrow", "large"])
    kept = {name: value.dtype for name, value in load_file(path).items()}
    assert kept == {
        "usual": torch.float16,
        "wide": torch.float32,
        "narrow": NARROW,
        "large": torch.float16,  # beyond what 8 bits hold
        "whole": torch.int64,
    }
    read = read_tensors(path)
    assert read["narrow"].dtype == torch.float16
    assert torch.equal(read["wide"], values)
    torch.testing.assert_close(read["narrow"].float(), values, rtol=1 / 16, atol=2**-10)
    torch.testing.assert_close(read["large"].float(), 1000 * values, rtol=1e-3, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
def test_numbers_that_half_precision_does_not_hold_are_refused(tmp_path, bad):
    with pytest.raises(WeightsError, match="v does not fit float16"):
        write_weights(tmp_path / "w.safetensors", "encoder", {"v": torch.tensor([bad])}, {}, {}, narrow=["v"])
    assert not (tmp_path / "w.safetensors").exists()
