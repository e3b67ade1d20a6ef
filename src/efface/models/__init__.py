"""Models as the rest of efface sees them: loading, token log-probabilities, generation, fingerprints."""
