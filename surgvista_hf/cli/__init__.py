"""The command line: `surgvista <verb>`. The module of a verb parses arguments, calls one function and prints the result."""
