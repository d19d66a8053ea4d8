"""From files to rows: which files an option names, and the tables that they hold."""
