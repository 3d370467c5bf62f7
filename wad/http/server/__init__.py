"""The HTTP server: uvicorn with bounds on bytes, time and connections."""
