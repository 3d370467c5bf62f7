"""Rules that the source code keeps."""
