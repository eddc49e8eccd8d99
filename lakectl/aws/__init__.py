"""The only boto3 in lakectl: AWS in our words."""
