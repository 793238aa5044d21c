"""The formulas of the theory, as functions."""
