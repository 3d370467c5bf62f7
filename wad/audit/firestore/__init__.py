"""Audit and repair of Firestore's documents: those of the daemon, of the apps' functions, and legacy documents.

decode    a document as a row of an audit          rows     the queries of the audits
rules     corrections of one document              plan     the edits of a conversation's documents
repair    reads, plans and writes behind the fence   undo     the old values of every document
"""
