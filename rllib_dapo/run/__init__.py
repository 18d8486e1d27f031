"""Run files: reading and checking them, making trials of them, telling how these go."""
