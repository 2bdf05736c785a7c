"""What is installed, found and usable on this machine: each thing looked at in a process of its own."""
