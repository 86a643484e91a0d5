"""What the uncompressed base is held against: published figures, and Whisper itself."""
