"""The client library and the shell on it: what they promise to the programs and people that use them."""
