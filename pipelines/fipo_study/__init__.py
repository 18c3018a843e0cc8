"""Every arm of a study with every seed, and what may be concluded."""
