"""Networks in ONNX files, run by OpenCV on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentface.errors import WeightsError


class OnnxNet:
    """A network that turns one picture into a row of numbers.

    Args:
        model: the ONNX file. entry: its input's name; "" where it has only one.

    Raises WeightsError: OpenCV cannot read it.
    """

    def __init__(self, model: Path, entry: str = "") -> None:
        import cv2

        try:
            self._net: Any = cv2.dnn.readNetFromONNX(np.frombuffer(model.read_bytes(), dtype=np.uint8))
        except cv2.error as error:
            raise WeightsError(f"{model}: OpenCV {cv2.__version__} cannot read this ONNX file ({error.err})") from None
        self._entry = [entry] if entry else []

    def rows(self, blobs: Tensor) -> Tensor:
        """Return (B, D) for (B, 3, S, S), one picture after the other: some files fix a batch of one."""
        found = []
        for blob in blobs.detach().cpu().float().numpy():
            self._net.setInput(blob[None], *self._entry)
            found.append(self._net.forward().reshape(-1).copy())
        return torch.from_numpy(np.stack(found))
