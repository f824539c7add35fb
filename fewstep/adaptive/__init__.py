"""What an encoder learns to put beside data, so that paths cross less: a code, noise, or both.

Codes: arXiv 2409.17487 (quantised adaptive conditions); noise: arXiv 2301.12003 (minimising trajectory curvature).
"""
