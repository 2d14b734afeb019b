"""Record out: agencies pull what they were granted."""
