"""What every accelerator owes the machine: tiny hand-assembled guests on the real thing."""
