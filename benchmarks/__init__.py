"""The engine beside what people would use instead, in one process: `make bench`, or `python -m benchmarks --quick`.

Every method computes its numbers on a few queries and is held against a reference by direct differences in float64 before any of
it is timed. Timings come in rounds: each round runs every method once, in a new order, next to a matrix product and an
exponential that say what the machine could do at that moment. Medians are reported, and ratios are medians of ratios within a round.
"""
