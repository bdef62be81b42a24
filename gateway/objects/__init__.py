"""One module for each family of objects; each function makes one object out of a target. docs/gateway-objects.md
says what each is for."""
