"""What the emulated interrupt controllers owe a guest, one file each; time is a number that tests set."""
