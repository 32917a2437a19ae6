"""What the service costs, each claim side by side in one run with the naive way: `make bench`."""
