"""One file per system: a Task, its toy and its recipe."""
