"""Adversarial training's judges: hinge losses, augmentation and discriminators. Who plays against them is elsewhere."""
