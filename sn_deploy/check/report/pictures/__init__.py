"""One picture a file, drawn by matplotlib from parts of the document."""
