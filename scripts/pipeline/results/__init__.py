"""Scores, operating points, statistics, tables, figures and the report page of trained models."""
