"""Downloads of archives and models: each is fetched, checked and unpacked once for all experiments."""
