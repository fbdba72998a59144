"""Which weights move, and so which are saved: one file per way."""
