"""How fast, how large, how soon: ratios against the plain way of doing the same, measured side by side."""
