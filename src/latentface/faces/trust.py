"""How far a found face is believed: its fine detail counts where it agrees with the photograph, and only there.

The projection corrects what the photograph's pixels show and keeps the rest of the face as the search left it. Where the
search put an edge beside the photograph's own, the correction moves the coarse half of that edge and leaves the fine
half standing: ringing, at hair, necks and backgrounds above all. So the face goes over into the smoothly enlarged
photograph before it is projected, the more, the worse it agreed.

What counts as bad agreement is relative, within limits: a search that was stopped early, or that has to meet a picture of
many pixels, agrees nowhere well, and by a fixed measure it would lose all its detail. The upper limit rises with the
enlargement, for the less the enlarged photograph shows, the more is lost by going over into it. At 512 px and more both
are wider from 8x on, up to four times at 32x.
"""

# B faces, (h, w) low pixels, R high side

import torch
import torch.nn.functional as F
from torch import Tensor

from latentface.degradation import Degradation, enlargements

# The doubt, the error at which a face's detail counts by half: SHARE of the face's own, no less than LEAST_DOUBT and no more
# than DOUBT_PER_OCTAVE of enlargement: 8 grey levels up to 2.8x, 11 at 4x, 16 at 8x.
SHARE = 1.4
LEAST_DOUBT = 8 / 255
DOUBT_PER_OCTAVE = 16 / 3 / 255
LARGE = 512  # px of a face from which the share and the upper limit grow with the enlargement
WIDER, FROM = 1.5, 3  # so many times more an octave of enlargement, from so many octaves on
MOST_WIDE = 4
REACH = 2  # low pixels about each that its error is averaged over, by a Gaussian of half as many


def trusted(degradation: Degradation, high: Tensor, low: Tensor) -> Tensor:
    """Return found faces (B, 3, R, R), faded into the enlarged low pictures (B, 3, h, w) where they do not agree with them.

    With e the local mean square error of `high` seen low, less what the noise explains, a face weighs d^2 / (d^2 + e),
    where d is SHARE times the root of e's mean over the face, within the limits above, both wider for large faces. A face
    that agrees everywhere stays as it is, up to the clamp to [0, 1].
    """
    inside = high.clamp(0, 1)
    mask = torch.ones_like(low[:, :1]) if degradation.mask is None else degradation.mask.to(low).expand_as(low[:, :1])
    error = ((low - degradation.forward(inside)) * mask).square().mean(1, keepdim=True)  # (B, 1, h, w)
    noise = degradation.sigma**2
    mean = error.sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True).clamp_min(1e-6)  # (B, 1, 1, 1)
    octaves = torch.tensor(enlargements(degradation, len(low))).to(low).log2().view(-1, 1, 1, 1)
    wider = 1 + WIDER * (octaves - FROM) if high.shape[-1] >= LARGE else torch.ones_like(octaves)
    wider = wider.clamp(1, MOST_WIDE)
    doubt = SHARE * (mean - noise).clamp_min(0).sqrt()
    doubt = (wider * doubt).minimum(wider * DOUBT_PER_OCTAVE * octaves).clamp_min(LEAST_DOUBT)
    local = _spread(error) / _spread(mask).clamp_min(1e-6)
    weight = 1 / (1 + (local - noise).clamp_min(0) / doubt.square())
    weight = degradation.fit((weight * mask).expand_as(low)).clamp(0, 1)  # (B, 3, R, R)
    smooth = degradation.fit(low)
    return smooth + weight * (inside - smooth)


def mixed(degradation: Degradation, high: Tensor, low: Tensor, strength: float) -> Tensor:
    """Return U x + strength (Y - U x): from the enlarged low pictures (B, 3, h, w) at 0 to `high` (B, 3, R, R) at 1."""
    smooth = degradation.fit(low)
    return smooth + strength * (high - smooth)


def _spread(values: Tensor) -> Tensor:
    """Blur (B, 1, h, w) by a Gaussian, zeros beyond the border."""
    steps = torch.arange(-REACH, REACH + 1).to(values)
    bell = torch.exp(-2 * (steps / REACH).square())
    kernel = torch.outer(bell, bell)
    return F.conv2d(values, (kernel / kernel.sum())[None, None], padding=REACH)
