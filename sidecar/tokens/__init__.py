"""Counting tokens where the model server gives no usage."""
