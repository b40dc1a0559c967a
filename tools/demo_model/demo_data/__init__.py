"""Everything the demo model is taught: word lists, facts, and the tasks that turn them into conversations."""
