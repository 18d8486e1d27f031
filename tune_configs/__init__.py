"""YAML presets, each for one row of the paper or one kind of hardware."""
