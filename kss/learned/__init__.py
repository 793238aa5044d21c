"""Scores that are learned: networks, and models whose training is known exactly."""
