"""What a run reports: every figure's name, unit and meaning, and how it is computed."""
