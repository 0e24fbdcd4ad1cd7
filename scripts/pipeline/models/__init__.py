"""Models and trainings: settings, the list of models, teachers and their translations."""
