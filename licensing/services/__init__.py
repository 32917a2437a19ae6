"""What can be asked of the service: each use case reads, has the rules decide, and writes."""
