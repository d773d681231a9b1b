"""A page and an API over the detector: uploads, one network run at a time, and what is kept."""
