"""How an empirical posterior is computed; known to `kss.distributions.Empirical` alone."""
