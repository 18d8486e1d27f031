"""Environments in processes that can be killed, and what an environment may return.

`construction` calls whatever makes an environment, in the way its signature asks for. `outcomes`
reads what an environment returns: right, or refused in one line. `hosted_env` is an environment
whose every call runs in a child process with a deadline, and `environment_service` what that child
runs. `host_settings` says which environments run so, and within which bounds.
"""
