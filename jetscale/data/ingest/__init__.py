"""Events that exist already, converted once: ROOT ntuples and public formats into samples."""
