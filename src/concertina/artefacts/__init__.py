"""What an experiment makes: every artefact's folder, inputs, key and size, found out without doing any work."""
