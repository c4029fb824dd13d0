#!/bin/sh
# Write .env with generated secrets, readable by its owner only: `make env`. An .env that is there stays as it is.
set -eu
file=${1:-.env}
umask 077

letters() { # that many letters and digits, fit for URLs
    LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c "$1"
}
key() { # 32 random bytes as Fernet takes them
    head -c 32 /dev/urandom | base64 | tr '+/' '-_'
}

if ! (set -C && : >"$file") 2>/dev/null; then
    echo "$file is there already (or its folder cannot be written) and stays: its secrets belong to your data." >&2
    exit 1
fi
cat >"$file" <<ENV
# Settings of docker-compose.yaml, written by \`make env\`. Keep a copy in a safe place: without these secrets a backup is
# of little use. Passwords stand in URLs, so they are of letters and digits only.

# What runs beside Tidemark itself. Leave out postgres or minio to use a server of your own (below); add tls or gpu.
COMPOSE_PROFILES=postgres,minio
COMPOSE_PROJECT_NAME=tidemark

# Where people find Airflow's pages. Only this machine can, unless TIDEMARK_BIND says otherwise: then put TLS before it.
TIDEMARK_BIND=127.0.0.1
TIDEMARK_PORT=8080
TIDEMARK_URL=http://localhost:8080

# The first user, with all rights; others are added in Airflow below Security.
AIRFLOW_ADMIN=admin
AIRFLOW_ADMIN_PASSWORD=$(letters 20)

# PostgreSQL: the superuser is for \`init\` alone, each other role owns what is its own.
POSTGRES_USER=postgres
POSTGRES_PASSWORD=$(letters 32)
TIDEMARK_DB_PASSWORD=$(letters 32)
MLFLOW_DB_PASSWORD=$(letters 32)
AIRFLOW_DB_PASSWORD=$(letters 32)
#POSTGRES_HOST=db.example.org
#POSTGRES_PORT=5432
#POSTGRES_OPTIONS=?sslmode=require

# The store: root is for \`init\` alone. The pipeline reads images and writes artefacts; MLflow writes below mlflow/ of the
# artefacts; the operator, used by \`docker compose run --rm cli\`, may also write images.
MINIO_ROOT_USER=root-$(letters 8)
MINIO_ROOT_PASSWORD=$(letters 32)
TIDEMARK_S3_ACCESS_KEY=pipeline-$(letters 8)
TIDEMARK_S3_SECRET_KEY=$(letters 32)
MLFLOW_S3_ACCESS_KEY=mlflow-$(letters 8)
MLFLOW_S3_SECRET_KEY=$(letters 32)
OPERATOR_S3_ACCESS_KEY=operator-$(letters 8)
OPERATOR_S3_SECRET_KEY=$(letters 32)
# Another store than MinIO: its address, and logins that you make there yourself.
#STORE_LOGINS=none
#TIDEMARK_S3_ENDPOINT=https://s3.example.org
#TIDEMARK_S3_REGION=us-east-1
#TIDEMARK_IMAGE_BUCKET=images
#TIDEMARK_ARTIFACT_BUCKET=tidemark

# Between Airflow's parts.
REDIS_PASSWORD=$(letters 32)
AIRFLOW_FERNET_KEY=$(key)
AIRFLOW_JWT_SECRET=$(letters 64)
AIRFLOW_API_SECRET=$(letters 64)

# Prometheus reads figures at TIDEMARK_URL/tidemark/metrics with this token; without one, nobody does.
#TIDEMARK_METRICS_TOKEN=$(letters 32)

# HTTPS (profile tls): the domain leads to this machine, ports 80 and 443 are open, and TIDEMARK_URL is https://DOMAIN.
#TIDEMARK_DOMAIN=tidemark.example.org
#FORWARDED_ALLOW_IPS=*

# Workers: tasks at once in each, and memory.
WORKER_TASKS=2
WORKER_MEMORY=4g
TRAINER_MEMORY=8g
ENV
echo "$file written: log in as admin with the password AIRFLOW_ADMIN_PASSWORD in it"
