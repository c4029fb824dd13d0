#!/bin/sh
# `make backup` and `make restore FROM=backups/…`: databases and artefacts of the composed stack.
#
#   backup.sh save FOLDER [--images]     a new folder; the stack may go on working
#   backup.sh load FOLDER                into an empty stack with the .env of the old one
#
# COMPOSE says how compose is called. The catalogue is saved first and artefacts last: an artefact never changes, so
# everything that the saved catalogue points to is in the archive. What a run does meanwhile is done again after `load`.
set -eu
compose=${COMPOSE:-docker compose}
verb=$1 folder=$2
databases="tidemark mlflow airflow"

say() { echo "$(date +%H:%M:%S) $*" >&2; }
postgres() { $compose exec -T postgres "$@"; }
store() { $compose run --rm -T --no-deps --entrypoint python cli docker/store_archive.py "$@"; }
user=$(sed -n 's/^POSTGRES_USER=//p' .env)
user=${user:-postgres}

case $verb in
save)
    umask 077
    mkdir -p "$(dirname "$folder")"
    mkdir "$folder.part" # fails where another backup is being made
    for database in $databases; do
        say "database $database"
        postgres pg_dump --username="$user" --format=custom "$database" >"$folder.part/$database.dump"
    done
    say "artefacts"
    if [ "${3:-}" = --images ]; then
        images=$(sed -n 's/^TIDEMARK_IMAGE_BUCKET=//p' .env) artifacts=$(sed -n 's/^TIDEMARK_ARTIFACT_BUCKET=//p' .env)
        store save "${artifacts:-tidemark}" "${images:-images}" >"$folder.part/store.tar"
    else
        store save >"$folder.part/store.tar"
    fi
    (cd "$folder.part" && sha256sum -- * >SHA256SUMS)
    mv "$folder.part" "$folder"
    say "$folder is complete: $(du -sh "$folder" | cut -f1). Keep it with a copy of .env, on another machine."
    ;;
load)
    (cd "$folder" && sha256sum --check --quiet SHA256SUMS) || { echo "$folder is damaged or none" >&2; exit 1; }
    say "an empty stack"
    $compose down # its volumes stay
    services=$(sed -n 's/^COMPOSE_PROFILES=//p' .env | tr ',' '\n' | grep -xE 'postgres|minio' || true)
    # shellcheck disable=SC2086 # a list of names
    $compose up --detach redis $services
    $compose run --rm -T init python docker/init.py empty
    for database in $databases; do
        say "database $database"
        postgres pg_restore --username="$user" --dbname="$database" --clean --if-exists --exit-on-error \
            <"$folder/$database.dump"
    done
    say "artefacts"
    store load <"$folder/store.tar"
    say "everything else, with migrations where this version is newer than the backup"
    $compose up --detach
    say "done"
    ;;
*)
    sed -n '2,6p' "$0" >&2
    exit 2
    ;;
esac
