"""How often each document is read: weights, budgets, repeat caps and keyed draws."""
