"""The pages inside Airflow: who may see them, what they show, how they are drawn."""
