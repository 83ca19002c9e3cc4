"""The command line: `surgvista <verb>`. A verb parses, calls one function and prints."""
