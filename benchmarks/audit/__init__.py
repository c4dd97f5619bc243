"""What the log costs: appends beside a bare group commit, growth, verification."""
