"""The pretrained GAN: generator, discriminator, latent statistics, card.

`prior` is what the searches use, `registry` finds it by name, `formats` reads and writes its file, `stylegan2` holds
the networks and `statistics` what is known of its latent space.
"""

from latentface.prior.registry import load_prior

__all__ = ["load_prior"]
