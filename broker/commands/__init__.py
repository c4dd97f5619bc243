"""What the broker can be asked, one transport-free command each."""
