"""Judges samples: metrics, records, leaderboard, figures and the page; it names no competitor."""
