"""What things cost: each benchmark is a module that is run, and stops by itself."""
