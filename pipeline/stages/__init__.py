"""What a task or a command runs: each stage composes the rooms below it and returns a small JSON-able result."""
