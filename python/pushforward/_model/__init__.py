"""What a flow is: the descriptions of its parts, and the state that is built from them."""
