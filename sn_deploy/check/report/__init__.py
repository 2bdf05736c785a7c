"""The report of a check: the JSON document turned into a page for people, and into a script that repeats the check."""
