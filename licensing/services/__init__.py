"""The use cases: each reads, has the rules decide, and writes."""
