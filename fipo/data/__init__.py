"""Raw rows in, clean problems out: sources, validation, duplicates, decontamination, split and manifest."""
