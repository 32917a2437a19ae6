"""Values and pure decisions: no clock, no storage, no network; `now` is an argument."""
