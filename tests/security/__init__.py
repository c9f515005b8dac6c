"""What a hostile guest cannot do, whatever it writes into registers and rings."""
