"""Which kernel: its size, its shape, and what it cannot remove. See the chapter of that name."""
