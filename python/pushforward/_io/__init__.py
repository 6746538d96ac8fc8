"""Files, tables, and walks over the rows of a table."""
