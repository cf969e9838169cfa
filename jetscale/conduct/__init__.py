"""Conducting a study: its samples, trainings, scores, tables, claims and page."""
