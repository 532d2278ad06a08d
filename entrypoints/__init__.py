"""Where everything is put together: container, configuration, commands."""
