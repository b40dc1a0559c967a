# Install rules and the bundle target.
