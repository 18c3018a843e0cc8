"""The whole way from raw problems to a registered model."""
