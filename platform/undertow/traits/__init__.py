"""What a teacher is given and a student is asked about: one file a family of traits."""
