"""What the software CPU's interrupt controllers owe a guest, one file for each; time is a number that tests set."""
