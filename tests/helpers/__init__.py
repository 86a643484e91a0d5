"""Parts that several tests share: small models, made-up results, copies of the project, servers on this machine."""
