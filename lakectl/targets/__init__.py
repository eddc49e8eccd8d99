"""The local and the AWS implementation behind a stage."""
