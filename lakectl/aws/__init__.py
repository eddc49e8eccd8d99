"""AWS in the product's words: the only room of the control plane that knows boto3.

Every call goes through one door (:meth:`lakectl.aws.session.Aws.call`), where foreign exceptions become ours; the
modules around it say what a stack, a bucket, a task or a result is to a lake, and nothing about lakes themselves.
"""
