"""fewstep: benchmark and reproduction of few-step sampling for diffusion and flow models."""

__version__ = "0.1.0"
