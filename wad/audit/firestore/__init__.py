"""Firestore's own documents: what the daemon told, what functions queued, and what the backend before wad left there.

reading   a document as a row of an audit     rows     the queries of the audits
rules     what is wrong with one document     plan     what a conversation's documents should say
repair    reads all, plans, and writes behind the fence     undo     what every document was before
"""
