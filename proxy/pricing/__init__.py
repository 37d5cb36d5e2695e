"""What a call costs: dated prices, and the arithmetic that turns usage into nano-dollars."""
