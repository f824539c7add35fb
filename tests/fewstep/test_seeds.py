"""Sample i has the same latent whatever the batch, the order or the method."""

import torch

from fewstep.seeds import SampleRng, latents, seed_of


def test_a_latent_depends_on_its_index_alone():
    together = latents("digits", 0, range(10), (1, 8, 8))
    apart = torch.cat([latents("digits", 0, [i], (1, 8, 8)) for i in reversed(range(10))]).flip(0)
    assert torch.equal(together, apart)


def test_other_axes_give_other_numbers():
    base = latents("digits", 0, range(4), (2,))
    assert not torch.equal(base, latents("digits", 1, range(4), (2,)))
    assert not torch.equal(base, latents("moons", 0, range(4), (2,)))


def test_latents_are_standard_normal():
    z = latents("moons", 0, range(4000), (2,)).flatten()
    assert abs(z.mean()) < 4 / 8000**0.5 and abs(z.var() - 1) < 4 * (2 / 8000) ** 0.5


def test_seeds_do_not_change_between_releases():
    """SHA-256 of "a/1", first eight bytes without the sign: published results rest on it."""
    import hashlib

    assert seed_of("a", 1) == int.from_bytes(hashlib.sha256(b"a/1").digest()[:8], "big") >> 1


def test_named_streams_are_apart_and_the_global_rng_is_untouched():
    before = torch.random.get_rng_state()
    rng = SampleRng("digits", 0, range(3))
    assert not torch.equal(rng.randn("codes", 5), rng.randn("churn", 5))
    assert torch.equal(rng.rand("codes", 5), SampleRng("digits", 0, [0, 1, 2]).rand("codes", 5))
    assert torch.equal(before, torch.random.get_rng_state())
