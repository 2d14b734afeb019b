"""What all services share: pure rules, wire, audit format; a thin runtime around them."""
