"""One part of the page a file: from the document to sentences, tables and pictures, or None where it has nothing."""
