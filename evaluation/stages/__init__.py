"""The steps of the DAG that judge."""
