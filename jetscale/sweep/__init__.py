"""Many trainings: on Ray Tune, side by side."""
