"""What draws, schedules and stops the trials of a sweep."""
