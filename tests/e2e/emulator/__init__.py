"""An AWS account on this machine: ministack, with the gaps closed that a lake meets; ``hypercorn emulator:app``.

Each module mends one room of ministack, by replacing functions of the pinned version (``ground.EMULATOR``):

    databases   a cluster in a template is a real PostgreSQL with TLS, whose IAM users log in with tokens
    secrets     what templates say of secrets holds
    objects     parts of versions
    tasks       Fargate: role credentials, limits, read-only root, images from the account's own registry, state events
    roles       what Lambda and ECS do for a role, they may do only where the role may
    access      what the policy evaluator is asked about: RunTask, PassRole, the Data API's secret, log groups
    queues      a queue's messages are gathered for a function as long and as many as its mapping says
    stacks      a full bucket cannot be deleted, boundaries stay on roles, and types that are only recorded

What it does not do as AWS does is in ../README.md.
"""

from ministack.app import app

from emulator import access, databases, objects, queues, roles, secrets, stacks, tasks

for room in (databases, secrets, objects, tasks, queues, roles, access, stacks):
    room.mend()

__all__ = ["app"]
