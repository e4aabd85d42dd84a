"""What is trained: data, and who owns which example of it."""
