"""What a sweep leaves for people: tables, figures and cards, made from the store alone."""
