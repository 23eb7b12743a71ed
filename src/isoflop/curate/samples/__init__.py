"""What is kept aside for a person to look at."""
