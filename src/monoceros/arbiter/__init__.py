"""What runs in the master: it owns the sockets, forks the workers, and watches them."""
