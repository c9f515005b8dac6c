"""The command line: argv in, a frozen Config or one line of error out."""
