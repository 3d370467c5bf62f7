"""The process of one account: it runs the WhatsApp library and writes what arrives into the spool."""
