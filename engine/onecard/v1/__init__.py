"""Messages and services, generated from grpc/onecard/v1 by `make generate`."""
