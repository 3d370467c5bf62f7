"""What the leader writes to Firestore: the lease, the fence, which machine has which session."""
