"""The steps of the DAG that run methods, each in a worker process of its own."""
