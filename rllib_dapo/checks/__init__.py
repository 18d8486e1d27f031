"""What is wrong with a setting, in one line that names it, its value and the way out."""
