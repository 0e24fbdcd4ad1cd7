"""What runs when: stages, their states, processes and progress; nothing of models or results."""
