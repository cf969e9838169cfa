"""The report on taggers: how well runs tell classes of jets apart, on the same held-out jets."""
