"""The page in the browser: it shows what `latentface.restore` does, and computes nothing itself."""
