"""Zero-shot editing: a fitted model fills in what an image lacks, without having been trained for it."""

REGIONS = ("left", "right", "top", "bottom", "centre", "random")  # what inpainting can hide
