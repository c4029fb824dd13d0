"""Training, judging and running the classifier: files and arrays in, records out; no S3, SQL, MLflow or Airflow."""
