"""Many configurations over one pass of the records: only what differs between them runs more than once."""
