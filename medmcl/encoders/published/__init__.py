"""Published encoders: a card says what a model reads and how, a net computes what it computes."""
