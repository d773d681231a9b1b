"""Web page and HTTP API for the detector."""
