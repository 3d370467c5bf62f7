"""What is answered over HTTP, beside the server itself (`wad.api.httpd`)."""
