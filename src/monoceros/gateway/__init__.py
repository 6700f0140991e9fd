"""What applications see. No socket, no selector, no await: values in, events out."""
