"""The system without Airflow: what a task or a command runs."""
