"""The soak: processes do everything at once on one segment and are killed. `python tests/soak` runs it."""
