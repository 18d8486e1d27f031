"""A module that ends the program which imports it, as one with a command line may."""

raise SystemExit(3)
