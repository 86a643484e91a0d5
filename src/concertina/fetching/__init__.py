"""What comes from elsewhere: archives and models, downloaded, checked and unpacked once for all experiments."""
