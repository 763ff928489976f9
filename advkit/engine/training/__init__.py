"""Training: one loop for every objective, resumable to the bit, on one process or several."""
