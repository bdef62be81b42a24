"""The Dockerfile's images: built by buildah without any daemon, or by Docker where its engine runs, and looked into."""
