"""`preceptor forget`: a takedown, from the request to the receipt.

selecting   which documents a request names
finding     what else is the same, and where all of it stands: versions, shards, rows, spans
exposure    which training runs have read it, at which steps
masking     the next version, in which it is masked in place
quotes      samples and messages in which a text is found again
purging     its bytes out of every file of the store
takedown    all of these in an order that a crash cannot spoil
"""
