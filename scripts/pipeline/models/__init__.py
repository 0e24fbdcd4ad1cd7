"""What is trained and how: settings, the list of models, trainings, teachers and what they say."""
