"""Pages for people: self-contained, without a request to anybody else."""
