"""The report of a sweep: tables, figures, texts and the HTML page, made from the store."""
