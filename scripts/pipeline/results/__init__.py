"""What trained models are worth: operating points, the frontier, and what follows."""
