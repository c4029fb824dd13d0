"""The embedded stack: a real PostgreSQL, S3, MLflow and Airflow under one folder, on loopback only; and the demo."""
