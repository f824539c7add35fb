"""$label: noise with the mean and variance of the data (an example; say what the control shows)."""


def sample(dataset, latents, rng):
    """Samples [B, …] that no model made. Sample i may depend on latent i and on rng (one stream a sample) alone.

    dataset   .reference is the set that samples are judged against, .std its scale
    rng       rng.randn(name, *shape) and rng.rand(name, *shape) draw [B, *shape]
    """
    return dataset.reference.mean(0) + dataset.std * rng.randn("noise", *dataset.shape)
