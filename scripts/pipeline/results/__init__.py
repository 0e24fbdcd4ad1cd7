"""What models are worth: scores, operating points, statistics, tables, figures, the page."""
