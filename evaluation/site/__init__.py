"""The page: one HTML file that holds the leaderboard and the figures and opens from disk."""

from evaluation.site.page import build

__all__ = ["build"]
