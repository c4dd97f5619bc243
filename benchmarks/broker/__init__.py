"""The broker beside a bare gRPC fan-out: what policy, proof and mTLS cost a search."""
