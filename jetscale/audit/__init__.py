"""Whether a function of events depends on the model that it was trained on: probes, trainings, one page, a verdict."""
