"""Pages of the documentation that are made from the code and from kept results, never typed."""
