"""What a decision costs, beside two policy engines that decide on the same agreements."""
