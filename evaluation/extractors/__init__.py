"""Networks that turn images into the features on which Fréchet distances are taken."""
