"""The forms in which weights travel, and what both ends of a way need."""
