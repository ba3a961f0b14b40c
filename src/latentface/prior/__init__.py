"""The pretrained GAN: generator, discriminator, latent statistics, card."""

from latentface.prior.registry import load_prior

__all__ = ["load_prior"]
