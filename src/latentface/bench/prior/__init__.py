"""What a prior is worth: samples, inversions, groups of people."""
