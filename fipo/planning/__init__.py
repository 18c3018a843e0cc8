"""What a recipe needs on given hardware before it runs: memory of a rank, tokens, time and cost of a step."""
