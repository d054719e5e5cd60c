"""What is typed after `assent`: commands with their options and help, by what they speak about."""
