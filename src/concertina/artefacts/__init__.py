"""What an experiment makes: every artefact's folder, inputs, key and size, known without running a stage."""
